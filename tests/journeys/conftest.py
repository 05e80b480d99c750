"""One demo for all journeys that leave it as they found it."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.journeys.browsing import CHROMIUM, FLAGS, PATIENCE_SECONDS, Person
from tests.journeys.process import DemoProcess
from tests.plain import PLAIN
from zlh.demo.portal import Portal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def demo_folder() -> Iterator[Path]:
    # Not under pytest's tmp_path: another pytest session closes that folder to PostgreSQL's own user.
    folder = Path(tempfile.mkdtemp(prefix="zlh-journeys-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def demo(demo_folder: Path) -> Iterator[DemoProcess]:
    running = DemoProcess(demo_folder / "shared")
    try:
        running.wait_until_up()
        yield running
    finally:
        running.close()


@pytest.fixture
async def customer(demo: DemoProcess) -> AsyncIterator[Portal]:
    """The demo's customer, signed in anew."""
    ready = demo.ready
    async with Portal(ready["url"], **ready["users"]["customer"]) as portal:
        yield portal


@pytest.fixture
async def operator(demo: DemoProcess) -> AsyncIterator[Portal]:
    ready = demo.ready
    async with Portal(ready["url"], **ready["users"]["operator"]) as portal:
        yield portal


@pytest.fixture
async def stranger(demo: DemoProcess) -> AsyncIterator[Portal]:
    """Somebody who has just registered, with the default plan: one game container, one dev container."""
    name, password = f"stranger{next(_numbers)}", "correct-horse"
    url = demo.ready["url"]
    async with httpx.AsyncClient(base_url=url, trust_env=False, verify=PLAIN) as client:
        body = {"email": f"{name}@zlh.example", "username": name, "password": password}
        answer = await client.post("/api/auth/register", json=body)
        assert answer.status_code == 201, answer.text
    async with Portal(url, name, password) as portal:
        yield portal


@pytest.fixture
def game(demo: DemoProcess) -> int:
    vmid: int = demo.ready["vmids"]["game"]
    return vmid


@pytest.fixture
async def raw(customer: Portal, demo: DemoProcess) -> AsyncIterator[httpx.AsyncClient]:
    """Plain HTTP as the customer, for status codes and streams."""
    headers = {"Authorization": f"Bearer {customer.token}"}
    async with httpx.AsyncClient(
        base_url=demo.ready["url"], headers=headers, timeout=30, trust_env=False, verify=PLAIN
    ) as client:
        yield client


@pytest.fixture
def owner(demo: DemoProcess) -> Iterator[Person]:
    owner = Person(demo)
    yield owner
    owner.close()


# Not for the whole session: while it is there, an event loop of asyncio counts as running in this thread.
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
    context = chromium.new_context(ignore_https_errors=True)
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    yield context.new_page()
    context.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker takes all journeys, so that one demo serves them."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.xdist_group("journeys"))
