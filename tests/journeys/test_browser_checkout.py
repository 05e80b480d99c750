"""A plan is paid for in a real browser, on the demo's simulated Stripe, and ended and kept on its portal page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.journeys.browsing import NEEDED, PATIENCE_SECONDS, Person
from tests.journeys.process import DemoProcess

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = NEEDED

PHONE = {"width": 375, "height": 700}


@pytest.fixture
def newcomer(demo: DemoProcess) -> Iterator[Person]:
    newcomer = Person(demo, "newcomer")
    yield newcomer
    newcomer.close()


def seen(person: Person, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What GET /api/billing says once that holds: a webhook brings it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds(shown := person.get("/api/billing")):
        assert time.monotonic() < deadline, shown
        time.sleep(0.05)
    return shown


def press(page: Page, words: str) -> None:
    page.get_by_role("button", name=words, exact=True).click()


def fits(page: Page) -> bool:
    """Nothing of it has to be scrolled for sideways on a phone."""
    size = page.viewport_size
    page.set_viewport_size(PHONE)
    wide: int = page.evaluate("document.documentElement.scrollWidth")
    if size is not None:
        page.set_viewport_size(size)
    return wide <= PHONE["width"]


def test_a_newcomer_pays_and_comes_back_with_a_plan(demo: DemoProcess, newcomer: Person, page: Page) -> None:
    ready = demo.ready
    assert newcomer.get("/api/billing")["plan"] is None
    address = newcomer.post("/api/billing/checkout", {"plan": "standard"})["url"]
    page.goto(address)
    for words in ("Subscribe to Standard", "€24.00", "per month, until you cancel", "newcomer@zlh.example"):
        assert page.get_by_text(words).first.is_visible(), words
    assert fits(page)
    # Whoever gives up comes back with nothing, and may try again.
    page.get_by_role("link", name="Cancel").click()
    assert page.url == f"{ready['stripeUrl']}/returned?checkout=cancelled"
    page.goto(address)
    press(page, "Pay with a card that is declined")
    assert page.get_by_text("Your card was declined").is_visible()
    assert newcomer.get("/api/billing")["plan"] is None

    press(page, "Pay")
    assert page.url == f"{ready['stripeUrl']}/returned?checkout=success"
    assert page.get_by_role("heading", name="Thank you").is_visible()
    shown = seen(newcomer, lambda shown: shown["status"] == "active")
    assert (shown["plan"]["name"], shown["given"]) == ("standard", False)
    # The page is good for one payment.
    page.goto(address)
    assert page.get_by_text("This has been paid.").is_visible()

    page.goto(newcomer.post("/api/billing/portal")["url"])
    assert page.get_by_text("Visa ending in 4242").is_visible()
    assert fits(page)
    press(page, "Cancel at the end of the period")
    assert page.get_by_text("Ends on").is_visible()
    seen(newcomer, lambda shown: shown["subscription"]["endsAt"] is not None)
    press(page, "Do not cancel")
    seen(newcomer, lambda shown: shown["subscription"]["endsAt"] is None)
    page.get_by_role("link", name="Back").click()
    assert page.url == f"{ready['stripeUrl']}/returned"


def test_whoever_only_comes_back_has_paid_nothing(demo: DemoProcess, page: Page) -> None:
    """The address that a payment leads to is no secret, and worth nothing."""
    name, password = "freeloader", "correct-horse"
    url = demo.ready["url"]
    with httpx.Client(base_url=url, trust_env=False) as client:
        body = {"email": f"{name}@zlh.example", "username": name, "password": password}
        token = client.post("/api/auth/register", json=body).json()["token"]
        client.headers["Authorization"] = f"Bearer {token}"
        client.post("/api/billing/checkout", json={"plan": "studio"})
        page.goto(f"{demo.ready['stripeUrl']}/returned?checkout=success")
        assert client.get("/api/billing").json()["subscription"] is None
