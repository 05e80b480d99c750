"""Forwarded ports in a real browser: who gets to see a customer's own page, and what that page can do to the IDE
beside it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.gateway.ide import Program
from tests.journeys.beside import beside
from tests.journeys.browsing import AT_ONCE_SECONDS, NEEDED, PATIENCE_SECONDS, Person
from tests.journeys.process import DemoProcess
from tests.journeys.shop import is_served, open_shops
from zlh.model.games import CODE_SERVER_PORT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = NEEDED

PORT = 3000
# What a page can try at another address with the cookies of whoever looks at it. Answers as "asked" whatever came.
ATTACKS = """
async ide => {
    const asks = [
        fetch(ide, {credentials: "include", mode: "no-cors"}),
        fetch(ide, {credentials: "include", mode: "cors"}),
        fetch(ide, {credentials: "include", mode: "no-cors", method: "POST", body: "x"}),
        new Promise((resolve, reject) => {
            const socket = new WebSocket(ide.replace(/^http/, "ws") + "ws");
            socket.onopen = resolve;
            socket.onerror = reject;
        }),
        new Promise(resolve => {
            const frame = document.createElement("iframe");
            frame.onload = resolve;
            frame.src = ide;
            document.body.append(frame);
        }),
        new Promise(resolve => {
            const frame = document.createElement("iframe");
            frame.name = "posted";
            document.body.append(frame);
            const form = document.createElement("form");
            Object.assign(form, {method: "post", action: ide + ".zlh/start", target: "posted"});
            document.body.append(form);
            frame.onload = resolve;
            form.submit();
        }),
    ];
    const ended = await Promise.allSettled(asks);
    return ended.map(each => each.status);
}
"""


@pytest.fixture(scope="module")
def shops(demo: DemoProcess) -> Iterator[dict[int, Program]]:
    """One at the forwarded port, one where the IDE would be."""
    owner = Person(demo)
    address = owner.address
    owner.close()
    with beside(partial(open_shops, address, CODE_SERVER_PORT, PORT)) as shops:
        yield shops


@pytest.fixture
def ports(owner: Person, shops: dict[int, Program]) -> Iterator[str]:
    """The path of the dev container's ports. What was opened there is closed again."""
    path = f"/api/dev/{owner.vmid}/ports"
    yield path
    owner.delete(f"{path}/{PORT}")


def token_url(person: Person, ports: str) -> str:
    return str(person.post(f"{ports}/{PORT}/token")["url"])


def test_a_port_is_the_owners_then_every_accounts_then_everybodys(
    demo: DemoProcess, owner: Person, ports: str, page: Page, chromium: Browser
) -> None:
    url = owner.post(ports, {"port": PORT})["port"]["url"]
    page.goto(token_url(owner, ports))
    assert page.url == url
    is_served(page)
    others = chromium.new_context()
    others.set_default_timeout(PATIENCE_SECONDS * 1000)
    friend = Person(demo, "friend")
    try:
        theirs = others.new_page()
        answer = theirs.goto(url)
        assert answer is not None
        assert (answer.status, theirs.title()) == (401, "You are not signed in here")
        owner.patch(f"{ports}/{PORT}", {"visibility": "signed_in"})
        theirs.goto(url)
        assert theirs.title() == "You are not signed in here"
        theirs.goto(token_url(friend, ports))
        is_served(theirs)
        owner.patch(f"{ports}/{PORT}", {"visibility": "private"})
        # The owner may stay.
        theirs.locator("#socket", has_text="closed 44").wait_for(timeout=AT_ONCE_SECONDS * 1000)
        assert page.locator("#socket").inner_text() == "open"
        others.clear_cookies()
        owner.patch(f"{ports}/{PORT}", {"visibility": "public"})
        theirs.goto(url)
        is_served(theirs)
    finally:
        friend.close()
        others.close()


def test_a_page_at_a_port_cannot_use_the_ide_in_the_same_browser(
    shops: dict[int, Program], owner: Person, ports: str, page: Page
) -> None:
    url = owner.post(ports, {"port": PORT, "visibility": "public"})["port"]["url"]
    page.goto(owner.way_in(""))
    is_served(page)
    ide = page.url
    shops[CODE_SERVER_PORT].heads.clear()
    page.goto(url)
    is_served(page)
    page.evaluate(ATTACKS, ide)
    assert shops[CODE_SERVER_PORT].heads == []
    # By a link is how people come.
    page.evaluate("ide => { location.href = ide; }", ide)
    page.wait_for_url(ide)
    is_served(page)
