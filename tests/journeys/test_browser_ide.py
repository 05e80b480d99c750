"""A real IDE in a real browser: JupyterLab behind a dev container's address, looked at through headless Chromium.

Everything that a browser does by itself is real here: cookies and their scope, Origin and Sec-Fetch fields,
redirects, compression, the websockets of terminals. Chromium takes every name below localhost for this machine.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from tests.journeys.jupyter import JupyterLab
from tests.journeys.process import DemoProcess
from zlh.model.games import CODE_SERVER_PORT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
MISSING = [name for name in ("jupyterlab", "playwright") if find_spec(name) is None]

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install --no-install-recommends chromium"),
    pytest.mark.skipif(bool(MISSING), reason=f"no {' and no '.join(MISSING)}: ./dev browser"),
]

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_SECONDS = 60.0
AT_ONCE_SECONDS = 5.0
"""For what is to happen within a second, on a machine that has other things to do."""


class Owner:
    """The demo's customer in a session of their own, who owns the dev container."""

    def __init__(self, demo: DemoProcess) -> None:
        ready = demo.ready
        self.vmid: int = ready["vmids"]["dev"]
        self._http = httpx.Client(base_url=ready["url"], timeout=30, trust_env=False)
        token = self.post("/api/auth/login", ready["users"]["customer"])["token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str) -> dict[str, object]:
        return self._checked(self._http.get(path))

    def post(self, path: str, body: object = None) -> dict[str, object]:
        return self._checked(self._http.post(path, json=body))

    def close(self) -> None:
        self._http.close()

    @property
    def address(self) -> str:
        """Of the dev container, as everything behind the proxy knows it."""
        (row,) = (row for row in self.get("/api/instances")["rows"] if row["vmid"] == self.vmid)
        address: str = row["ip"]
        return address

    def way_in(self, path: str = "lab?reset") -> str:
        """The address that opens the IDE, once, at that path; by itself with nothing open in it."""
        url = str(self.post(f"/api/dev/{self.vmid}/ide-token")["url"])
        place, token = url.split("?")
        return f"{place}{path}{'&' if '?' in path else '?'}{token}"

    def _checked(self, answer: httpx.Response) -> dict[str, object]:
        assert answer.is_success, answer.text
        document: dict[str, object] = answer.json() if answer.content else {}
        return document


@pytest.fixture
def owner(demo: DemoProcess) -> Iterator[Owner]:
    owner = Owner(demo)
    yield owner
    owner.close()


@pytest.fixture(scope="module")
def ide(demo: DemoProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    owner = Owner(demo)
    address = owner.address
    owner.close()
    with JupyterLab(tmp_path_factory.mktemp("jupyter"), address, CODE_SERVER_PORT) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """In a browser that knows nothing yet."""
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    yield context.new_page()
    context.close()


def open_terminal(page: Page) -> None:
    page.locator(".jp-LauncherCard", has_text="Terminal").click()
    page.locator(".jp-Terminal .xterm-helper-textarea").wait_for(state="attached")
    # The first thing that comes is the shell's prompt.
    page.locator(".jp-Terminal .xterm-accessibility-tree", has_text="$").wait_for(state="attached")


def test_a_terminal_runs_a_command(ide: JupyterLab, owner: Owner, page: Page) -> None:
    sockets: list[str] = []
    page.on("websocket", lambda websocket: sockets.append(websocket.url))
    way_in = owner.way_in()
    arrived = page.goto(way_in)
    assert arrived is not None
    # The rest of the address stays, the token does not.
    assert arrived.url == way_in.partition("&token=")[0]
    open_terminal(page)
    # What is typed does not have the answer in it.
    page.keyboard.type("expr 6 '*' 7 | tee seen.txt\n")
    page.locator(".jp-Terminal .xterm-accessibility-tree", has_text=re.compile(r"(?<!\d)42(?!\d)")).wait_for(
        state="attached"
    )
    assert (ide.files / "seen.txt").read_text() == "42\n"
    (terminal,) = (url for url in sockets if "/terminals/" in url)
    assert urlsplit(terminal).netloc == urlsplit(way_in).netloc
    ours = [cookie for cookie in page.context.cookies() if str(cookie.get("name")).startswith("zlh")]
    assert [(cookie["domain"], cookie["path"], cookie["httpOnly"]) for cookie in ours] == [
        (urlsplit(way_in).hostname, "/", True)
    ]
    assert "zlh" not in page.evaluate("document.cookie")


def test_a_way_in_is_good_once_and_a_browser_without_it_stays_outside(
    ide: JupyterLab, owner: Owner, chromium: Browser, page: Page
) -> None:
    way_in = owner.way_in()
    page.goto(way_in)
    page.locator(".jp-Launcher").wait_for()
    other = chromium.new_context()
    try:
        theirs = other.new_page()
        for address in (way_in, page.url):
            answer = theirs.goto(address)
            assert answer is not None
            assert answer.status == 401
            assert theirs.title() == "You are not signed in here"
    finally:
        other.close()


def test_signing_out_ends_the_terminal_at_once(ide: JupyterLab, owner: Owner, page: Page) -> None:
    page.goto(owner.way_in())
    with page.expect_websocket(lambda websocket: "/terminals/" in websocket.url) as opened:
        open_terminal(page)
    with opened.value.expect_event("close", timeout=AT_ONCE_SECONDS * 1000):
        owner.post("/api/auth/logout")
    answer = page.reload()
    assert answer is not None
    assert answer.status == 401
    assert page.title() == "You are not signed in here"


def test_a_stopped_ide_says_so_starts_on_request_and_opens(ide: JupyterLab, owner: Owner, page: Page) -> None:
    way_in = owner.way_in()
    owner.post(f"/api/dev/{owner.vmid}/code-server/stop")
    ide.stop()
    page.goto(way_in)
    assert page.title() == "The IDE is stopped"
    page.get_by_role("button", name="Start the IDE").click()
    ide.start()
    # It opens by itself: the page is loaded again until the IDE is there.
    page.locator(".jp-Launcher").wait_for()
