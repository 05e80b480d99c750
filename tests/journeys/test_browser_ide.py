"""A real IDE in a real browser: JupyterLab behind a dev container's address, looked at through headless Chromium.

Everything that a browser does by itself is real here: cookies and their scope, Origin and Sec-Fetch fields,
redirects, compression, the websockets of terminals. Chromium takes every name below localhost for this machine.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.journeys.browsing import AT_ONCE_SECONDS, NEEDED, PATIENCE_SECONDS, Person
from tests.journeys.jupyter import JupyterLab
from tests.journeys.process import DemoProcess
from zlh.model.games import CODE_SERVER_PORT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = NEEDED


@pytest.fixture(scope="module")
def ide(demo: DemoProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    owner = Person(demo)
    address = owner.address
    owner.close()
    with JupyterLab(tmp_path_factory.mktemp("jupyter"), address, CODE_SERVER_PORT) as running:
        yield running


def open_terminal(page: Page) -> None:
    page.locator(".jp-LauncherCard", has_text="Terminal").click()
    page.locator(".jp-Terminal .xterm-helper-textarea").wait_for(state="attached")
    # The first thing that comes is the shell's prompt.
    page.locator(".jp-Terminal .xterm-accessibility-tree", has_text="$").wait_for(state="attached")


def test_a_terminal_runs_a_command(ide: JupyterLab, owner: Person, page: Page) -> None:
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
    ide: JupyterLab, owner: Person, chromium: Browser, page: Page
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


def test_signing_out_ends_the_terminal_at_once(ide: JupyterLab, owner: Person, page: Page) -> None:
    page.goto(owner.way_in())
    with page.expect_websocket(lambda websocket: "/terminals/" in websocket.url) as opened:
        open_terminal(page)
    with opened.value.expect_event("close", timeout=AT_ONCE_SECONDS * 1000):
        owner.post("/api/auth/logout")
    answer = page.reload()
    assert answer is not None
    assert answer.status == 401
    assert page.title() == "You are not signed in here"


def test_a_terminal_goes_on_after_a_restart_of_the_gateway(
    demo: DemoProcess, ide: JupyterLab, owner: Person, page: Page
) -> None:
    page.goto(owner.way_in())
    with page.expect_websocket(lambda websocket: "/terminals/" in websocket.url) as opened:
        open_terminal(page)
    before = demo.ready["pids"]["api"]
    with opened.value.expect_event("close"):
        os.kill(before, signal.SIGTERM)
    # The demo starts it again, the page opens its websocket again: with the cookie that it had, to the same shell.
    back = page.locator(".jp-Terminal .xterm-accessibility-tree", has_text=re.compile(r"(?<!\d)42(?!\d)"))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not back.count():
        assert time.monotonic() < deadline, "the terminal did not come back"
        page.keyboard.type("expr 6 '*' 7\n")
        page.wait_for_timeout(500)
    assert demo.ready["pids"]["api"] != before


def test_a_stopped_ide_says_so_starts_on_request_and_opens(ide: JupyterLab, owner: Person, page: Page) -> None:
    way_in = owner.way_in()
    owner.post(f"/api/dev/{owner.vmid}/code-server/stop")
    ide.stop()
    page.goto(way_in)
    assert page.title() == "The IDE is stopped"
    page.get_by_role("button", name="Start the IDE").click()
    ide.start()
    # It opens by itself: the page is loaded again until the IDE is there.
    page.locator(".jp-Launcher").wait_for()
