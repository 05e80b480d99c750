"""The pages, as a browser without scripts uses them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from stripe import StripeClient

from tests.simulators.stripe.shop import check_out, subscribe
from zlh.simulators.stripe import DAY, Card, SimulatedStripe


@pytest.fixture
async def browser(stripe: SimulatedStripe) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, verify=False, base_url=stripe.url) as browser:
        yield browser


def actions(page: httpx.Response) -> dict[str, str]:
    """What each button does."""
    forms = re.findall(r'<form method="post" action="([^"]*)"><button[^>]*>([^<]*)</button>', page.text)
    return {words: action for action, words in forms}


async def press(browser: httpx.AsyncClient, page: httpx.Response, words: str) -> httpx.Response:
    """The page after the button; or the redirect that leads out of the simulator."""
    answer = await browser.post(actions(page)[words])
    assert answer.status_code == 303
    target = answer.headers["location"]
    return answer if target.startswith("http") else await browser.get(target)


async def test_paying(stripe: SimulatedStripe, client: StripeClient, browser: httpx.AsyncClient) -> None:
    customer = await client.v1.customers.create_async({"email": "ada@example.com"})
    session = await check_out(client, customer.id)
    page = await browser.get(session.url)
    for words in ("Subscribe to Starter", "€9.00", "per month", "ada@example.com", "Simulated"):
        assert words in page.text
    assert 'href="https://portal.example/plans"' in page.text
    declined = await press(browser, page, "Pay with a card that is declined")
    assert "declined" in declined.text
    assert stripe.of("subscription") == []
    paid = await press(browser, declined, "Pay")
    assert paid.headers["location"] == f"https://portal.example/paid?session={session.id}"
    assert [row["status"] for row in stripe.of("subscription", customer=customer.id)] == ["active"]
    again = await browser.get(f"/c/pay/{session.id}")
    assert "This has been paid" in again.text
    assert actions(again) == {}
    twice = await browser.post(f"/c/pay/{session.id}/pay")
    assert "This has been paid" in twice.text
    assert len(stripe.of("subscription")) == 1


async def test_an_expired_checkout_sells_nothing(
    stripe: SimulatedStripe, client: StripeClient, browser: httpx.AsyncClient
) -> None:
    session = await check_out(client, None)
    stripe.advance(2 * DAY)
    assert "has expired" in (await browser.get(session.url)).text
    await browser.post(f"/c/pay/{session.id}/pay")
    assert stripe.of("subscription") == []


async def open_portal(client: StripeClient, customer: str) -> Any:
    return await client.v1.billing_portal.sessions.create_async(
        {"customer": customer, "return_url": "https://portal.example/billing"}
    )


async def test_the_portal(stripe: SimulatedStripe, client: StripeClient, browser: httpx.AsyncClient) -> None:
    subscription = await subscribe(stripe, client)
    portal = await open_portal(client, subscription.customer)
    page = await browser.get(portal.url)
    assert "Renews on" in page.text
    assert 'href="https://portal.example/billing"' in page.text
    ending = await press(browser, page, "Cancel at the end of the period")
    assert "Ends on" in ending.text
    assert stripe.of("subscription")[0]["cancel_at"] == subscription.items.data[0].current_period_end
    going_on = await press(browser, ending, "Do not cancel")
    assert "Renews on" in going_on.text
    await press(browser, going_on, "Let the card be declined from now on")
    assert stripe.account.cards.of(subscription.customer) is Card.DECLINED
    stripe.advance(32 * DAY)
    overdue = await browser.get(portal.url)
    assert "Payment overdue" in overdue.text
    fixed = await press(browser, overdue, "Use a new card that works")
    assert "Payment overdue" not in fixed.text
    assert [row["status"] for row in stripe.of("invoice")] == ["paid", "paid"]


async def test_nobody_ends_what_is_another_s(
    stripe: SimulatedStripe, client: StripeClient, browser: httpx.AsyncClient
) -> None:
    mine, other = await subscribe(stripe, client), await subscribe(stripe, client)
    portal = await open_portal(client, mine.customer)
    answer = await browser.post(f"/p/session/{portal.id}/cancel/{other.id}")
    assert answer.status_code == 404
    assert stripe.of("subscription", id=other.id)[0]["cancel_at"] is None


async def test_an_invoice_can_be_paid_on_its_page(
    stripe: SimulatedStripe, client: StripeClient, browser: httpx.AsyncClient
) -> None:
    subscription = await subscribe(stripe, client)
    stripe.set_card(subscription.customer, Card.DECLINED)
    stripe.advance(32 * DAY)
    invoice = stripe.of("invoice")[-1]
    page = await browser.get(invoice["hosted_invoice_url"])
    assert "Open" in page.text
    paid = await press(browser, page, "Pay €9.00")
    assert "Paid" in paid.text
    assert (await client.v1.subscriptions.retrieve_async(subscription.id)).status == "active"


async def test_what_people_wrote_is_no_markup(client: StripeClient, browser: httpx.AsyncClient) -> None:
    session = await check_out(client, None, customer_email="<b>@example.com", cancel_url='https://x.example/"><b>')
    page = await browser.get(session.url)
    assert "<b>" not in page.text
    nowhere = await browser.get("/c/pay/<b>")
    assert (nowhere.status_code, "<b>" in nowhere.text) == (404, False)


@pytest.mark.parametrize("path", ["/", "/c/pay/cs_nobody", "/p/session/bps_nobody", "/i/in_nobody"])
async def test_no_such_page(browser: httpx.AsyncClient, path: str) -> None:
    assert (await browser.get(path)).status_code == 404
