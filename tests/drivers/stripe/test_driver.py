from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from tests.drivers.stripe.crooked import open_crooked
from zlh.drivers.errors import Conflict, DriverError, Invalid, NotFound, Refused, Unreachable
from zlh.drivers.stripe import StripeDriver
from zlh.drivers.stripe.wire import SubscriptionShape
from zlh.model.billing import BillingEvent, Customer, Subscription, SubscriptionStatus
from zlh.simulators.agent.http import Response
from zlh.simulators.stripe import DAY, KEY, Card, FaultName, SimulatedStripe

STARTER, STANDARD, STUDIO = "price_starter", "price_standard", "price_studio"


def now(far: SimulatedStripe) -> datetime:
    return datetime.fromtimestamp(far.now(), UTC)


async def open_page(
    far: SimulatedStripe, driver: StripeDriver, customer: str, price: str = STARTER, key: str = "page"
) -> str:
    page = await driver.open_checkout(
        1,
        customer,
        price,
        success_url="https://portal/paid",
        cancel_url="https://portal/not",
        expires_at=now(far) + timedelta(hours=1),
        key=key,
    )
    return page.id


async def subscribe(
    far: SimulatedStripe, driver: StripeDriver, price: str = STARTER, account_id: int = 1
) -> Subscription:
    customer = await driver.create_customer(account_id, "ada@example.com", "ada", key=f"customer-{account_id}")
    far.pay(await open_page(far, driver, customer.id, price, f"page-{account_id}"))
    (found,) = await driver.subscriptions(customer.id, now(far))
    return found


async def again(far: SimulatedStripe, driver: StripeDriver, subscription: Subscription) -> Subscription:
    (found,) = await driver.subscriptions(subscription.customer_id, now(far))
    return found


# What it asks


async def test_a_customer_is_made_for_an_account_and_found_again(driver: StripeDriver) -> None:
    made = await driver.create_customer(7, "ada@example.com", "ada", key="k")
    assert made == Customer(made.id, 7)
    assert await driver.customer(made.id) == made
    assert await driver.create_customer(7, "ada@example.com", "ada", key="k") == made


async def test_a_customer_of_another_installation_is_nobody_here(far: SimulatedStripe, driver: StripeDriver) -> None:
    other = StripeDriver(far.url, KEY, "staging", seconds=5)
    made = await other.create_customer(7, "ada@example.com", "ada", key="k")
    await other.aclose()
    assert await driver.customer(made.id) == Customer(made.id, None, foreign=True)


async def test_a_customer_that_was_deleted_says_so(far: SimulatedStripe, driver: StripeDriver) -> None:
    subscription = await subscribe(far, driver)
    far.account.customers.delete(subscription.customer_id)
    assert (await driver.customer(subscription.customer_id)).deleted
    assert (await again(far, driver, subscription)).status is SubscriptionStatus.CANCELED


async def test_a_page_is_open_until_it_is_paid_or_closed(far: SimulatedStripe, driver: StripeDriver) -> None:
    customer = await driver.create_customer(1, "ada@example.com", "ada", key="k")
    paid, closed = [await open_page(far, driver, customer.id, key=key) for key in ("a", "b")]
    page = await driver.checkout(paid)
    assert (page.open, page.complete, page.customer_id) == (True, False, customer.id)
    assert page.url is not None
    far.pay(paid)
    assert (await driver.checkout(paid)).complete
    await driver.close_checkout(closed)
    assert not (await driver.checkout(closed)).open
    for over in (paid, closed):
        with pytest.raises(Refused):
            await driver.close_checkout(over)


async def test_a_subscription_says_what_it_costs_until_when(far: SimulatedStripe, driver: StripeDriver) -> None:
    began = now(far)
    found = await subscribe(far, driver)
    assert (found.status, found.price_id, found.amount, found.currency) == ("active", STARTER, 900, "eur")
    assert timedelta() <= found.period_start - began < timedelta(minutes=1)
    assert timedelta(days=28) <= found.period_end - found.period_start <= timedelta(days=31)
    assert (found.unpaid_since, found.cancel_at, found.ended_at, found.next_price_id) == (None,) * 4
    (listed,) = [one async for one in driver.all_subscriptions(found.looked_at)]
    assert listed == found


async def test_a_change_costs_what_its_preview_said(far: SimulatedStripe, driver: StripeDriver) -> None:
    before = await subscribe(far, driver)
    far.advance(10 * DAY)
    at = now(far)
    preview = await driver.preview(before, STANDARD, at)
    assert (preview.currency, preview.at) == ("eur", at)
    assert preview.due_now == sum(line.amount for line in preview.lines) > 0
    assert all(line.proration for line in preview.lines)
    await driver.change_price(before, STANDARD, at, key="k")
    assert (await again(far, driver, before)).price_id == STANDARD
    assert far.of("invoice")[-1]["amount_paid"] == preview.due_now
    # Asked twice it is done once.
    await driver.change_price(before, STANDARD, at, key="k")
    assert len(far.of("invoice")) == 2


async def test_a_change_that_is_not_paid_changes_nothing(far: SimulatedStripe, driver: StripeDriver) -> None:
    before = await subscribe(far, driver)
    far.advance(10 * DAY)
    far.set_card(before.customer_id, Card.DECLINED)
    with pytest.raises(Refused) as refused:
        await driver.change_price(before, STANDARD, now(far), key="k")
    assert refused.value.status == 402
    assert refused.value.details["code"] == "card_declined"
    after = await again(far, driver, before)
    assert replace(after, looked_at=before.looked_at) == before


async def test_a_change_at_the_end_of_the_period_can_be_changed_and_taken_back(
    far: SimulatedStripe, driver: StripeDriver
) -> None:
    before = await subscribe(far, driver, STUDIO)
    await driver.change_price_later(before, STARTER, key="a")
    later = await again(far, driver, before)
    assert (later.price_id, later.next_price_id) == (STUDIO, STARTER)
    await driver.change_price_later(later, STANDARD, key="b")
    later = await again(far, driver, before)
    assert later.next_price_id == STANDARD
    assert later.schedule_id is not None
    await driver.stay_at_price(later.schedule_id, key="c")
    await driver.stay_at_price(later.schedule_id, key="d")
    assert (await again(far, driver, before)).next_price_id is None


async def test_a_change_at_the_end_of_the_period_comes_with_the_next_period(
    far: SimulatedStripe, driver: StripeDriver
) -> None:
    before = await subscribe(far, driver, STUDIO)
    await driver.change_price_later(before, STARTER, key="a")
    far.advance(32 * DAY)
    after = await again(far, driver, before)
    assert (after.price_id, after.amount, after.next_price_id) == (STARTER, 900, None)
    # And once more while the schedule is still there.
    await driver.change_price_later(after, STANDARD, key="b")
    assert (await again(far, driver, before)).next_price_id == STANDARD


async def test_an_end_with_the_period_can_be_taken_back(far: SimulatedStripe, driver: StripeDriver) -> None:
    before = await subscribe(far, driver)
    await driver.let_end(before.id, key="a")
    assert (await again(far, driver, before)).cancel_at == before.period_end
    await driver.let_go_on(before.id, key="b")
    assert (await again(far, driver, before)).cancel_at is None


async def test_an_end_that_was_chosen_on_stripes_own_page_can_be_taken_back_too(
    far: SimulatedStripe, driver: StripeDriver
) -> None:
    before = await subscribe(far, driver)
    far.cancel(before.id)
    assert (await again(far, driver, before)).cancel_at is not None
    for key in ("a", "b"):
        await driver.let_go_on(before.id, key=key)
        assert (await again(far, driver, before)).cancel_at is None


async def test_what_is_owed_is_owed_since_its_oldest_invoice(far: SimulatedStripe, driver: StripeDriver) -> None:
    paid = await subscribe(far, driver)
    far.set_card(paid.customer_id, Card.DECLINED)
    far.advance(33 * DAY)
    owing = await again(far, driver, paid)
    assert owing.status is SubscriptionStatus.PAST_DUE
    assert owing.unpaid_since == paid.period_end
    far.advance(35 * DAY)
    assert (await again(far, driver, paid)).unpaid_since == paid.period_end


async def test_stripes_own_pages_have_an_address(far: SimulatedStripe, driver: StripeDriver) -> None:
    customer = await driver.create_customer(1, "ada@example.com", "ada", key="k")
    assert (await driver.portal(customer.id, "https://portal/billing")).startswith(far.url)


async def test_a_dispute_says_whose_it_is(far: SimulatedStripe, driver: StripeDriver) -> None:
    paid = await subscribe(far, driver)
    opened = far.dispute(paid.customer_id)
    found = await driver.dispute(opened["id"])
    assert (found.customer_id, found.amount, found.currency) == (paid.customer_id, 900, "eur")
    assert found.reason == "fraudulent"


async def test_events_are_read_back_to_a_moment(far: SimulatedStripe, driver: StripeDriver) -> None:
    await subscribe(far, driver)
    far.advance(3 * DAY)
    middle = now(far)
    await driver.create_customer(2, "bob@example.com", "bob", key="bob")
    recent = [event async for event in driver.events_since(middle)]
    assert [event.type for event in recent] == ["customer.created"]
    assert isinstance(recent[0], BillingEvent)
    every = [event async for event in driver.events_since(middle - timedelta(days=4))]
    assert [event.id for event in every] == [event["id"] for event in reversed(far.events)]


async def test_lists_are_read_to_their_end(far: SimulatedStripe, driver: StripeDriver) -> None:
    for number in range(103):
        customer = far.account.customers.make({"email": f"c{number}@example.com"}, {"zlh_account": str(number)})
        price = far.account.prices.retrieve(STARTER)
        far.account.cards.enter(customer)
        far.account.subscriptions.make(customer, [(price, 1)], {}, None)
    found = [one.id async for one in driver.all_subscriptions(now(far))]
    assert len(found) == len(set(found)) == 103


# What can go wrong

Call = Callable[[StripeDriver], Awaitable[Any]]
AT = datetime(2026, 3, 1, tzinfo=UTC)
SOME = Subscription("sub_x", "cus_x", SubscriptionStatus.ACTIVE, "si_x", STARTER, "eur", 900, AT, AT, AT, AT)


async def everything(source: Any) -> list[Any]:
    return [one async for one in source]


READS: dict[str, Call] = {
    "customer": lambda driver: driver.customer("cus_x"),
    "subscriptions": lambda driver: driver.subscriptions("cus_x", AT),
    "all_subscriptions": lambda driver: everything(driver.all_subscriptions(AT)),
    "preview": lambda driver: driver.preview(SOME, STANDARD, AT),
    "checkout": lambda driver: driver.checkout("cs_x"),
    "events_since": lambda driver: everything(driver.events_since(AT)),
    "dispute": lambda driver: driver.dispute("du_x"),
}
CHANGES: dict[str, Call] = {
    "create_customer": lambda driver: driver.create_customer(1, "a@example.com", "a", key="k"),
    "change_price": lambda driver: driver.change_price(SOME, STANDARD, AT, key="k"),
    "let_end": lambda driver: driver.let_end("sub_x", key="k"),
    "let_go_on": lambda driver: driver.let_go_on("sub_x", key="k"),
    "change_price_later": lambda driver: driver.change_price_later(SOME, STANDARD, key="k"),
    "stay_at_price": lambda driver: driver.stay_at_price("sub_sched_x", key="k"),
    "open_checkout": lambda driver: driver.open_checkout(
        1, "cus_x", STARTER, success_url="https://a", cancel_url="https://b", expires_at=AT, key="k"
    ),
    "close_checkout": lambda driver: driver.close_checkout("cs_x"),
    "portal": lambda driver: driver.portal("cus_x", "https://a"),
}
CALLS = READS | CHANGES
ABSENT = [
    name for name in CALLS if name not in ("create_customer", "all_subscriptions", "events_since", "subscriptions")
]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's pauses between its tries, which are not what these tests are about."""
    monkeypatch.setattr("stripe._http_client.HTTPClient._sleep_time_seconds", lambda *_: 0.0)


@pytest.mark.parametrize("name", ABSENT)
async def test_what_is_not_there_is_not_found(driver: StripeDriver, name: str) -> None:
    with pytest.raises(NotFound):
        await CALLS[name](driver)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", [FaultName.BROKEN, FaultName.TOO_MANY, FaultName.GARBAGE, FaultName.REFUSING])
async def test_every_call_says_that_stripe_is_not_reachable(
    far: SimulatedStripe, driver: StripeDriver, fault: FaultName
) -> None:
    far.cause(fault, seconds=0)
    for name, call in CALLS.items():
        with pytest.raises(DriverError) as error:
            await call(driver)
        assert isinstance(error.value, Unreachable), name
        assert KEY not in error.value.message
        assert error.value.__suppress_context__


@pytest.mark.usefixtures("quick")
async def test_every_call_says_so_where_nobody_listens(far: SimulatedStripe, driver: StripeDriver) -> None:
    far.cause(FaultName.DOWN)
    for name, call in CALLS.items():
        with pytest.raises(DriverError) as error:
            await call(driver)
        assert isinstance(error.value, Unreachable), name


async def test_a_call_takes_no_longer_than_it_may(far: SimulatedStripe) -> None:
    far.cause(FaultName.SLOW, seconds=30)
    driver = StripeDriver(far.url, KEY, "zlh", seconds=0.2)
    with trio.fail_after(10), pytest.raises(Unreachable) as error:
        await driver.create_customer(1, "a@example.com", "a", key="k")
    assert error.value.may_have_happened
    await driver.aclose()


@pytest.mark.usefixtures("quick")
async def test_what_was_done_and_not_answered_is_done_once(far: SimulatedStripe, driver: StripeDriver) -> None:
    far.cause(FaultName.LOST_ANSWER)
    with pytest.raises(Unreachable) as error:
        await driver.create_customer(1, "a@example.com", "a", key="k")
    assert error.value.may_have_happened
    far.calm()
    made = await driver.create_customer(1, "a@example.com", "a", key="k")
    assert [one["id"] for one in far.of("customer")] == [made.id]


async def test_a_key_that_was_used_for_something_else_is_a_conflict(driver: StripeDriver) -> None:
    await driver.create_customer(1, "a@example.com", "a", key="k")
    with pytest.raises(Conflict):
        await driver.create_customer(2, "b@example.com", "b", key="k")


async def test_two_who_ask_the_same_at_once_have_it_done_once(far: SimulatedStripe, driver: StripeDriver) -> None:
    far.cause(FaultName.SLOW, seconds=0.2, times=2)
    made: list[Customer] = []

    async def ask() -> None:
        made.append(await driver.create_customer(1, "a@example.com", "a", key="k"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
    assert made[0] == made[1]
    assert len(far.of("customer")) == 1


async def test_a_wrong_key_is_ours_to_mend_and_says_nothing_of_it(far: SimulatedStripe) -> None:
    driver = StripeDriver(far.url, "sk_test_of_somebody_else", "zlh", seconds=5)
    with pytest.raises(Unreachable) as error:
        await driver.customer("cus_x")
    assert "somebody" not in error.value.message
    await driver.aclose()


async def test_what_stripe_refuses_is_told_in_its_own_word_alone(far: SimulatedStripe, driver: StripeDriver) -> None:
    customer = await driver.create_customer(1, "ada@example.com", "ada", key="k")
    with pytest.raises(Refused) as refused:
        await driver.create_customer(1, "nobody", "ada", key="l")
    assert (refused.value.status, refused.value.details) == (400, {"code": "email_invalid"})
    assert "nobody" not in refused.value.message
    with pytest.raises(NotFound):
        await open_page(far, driver, customer.id, "price_of_nobody")


ODD_BODIES = [
    b"[]",
    b"null",
    b"7",
    b'"hello"',
    b"{}",
    b'{"data": 7}',
    b'{"id": 7}',
    b'{"error": 7}',
    b"",
    b"\xff",
    b'{"data": [7], "has_more": true}',
]
ODD_ERRORS = [
    b"[]",
    b"null",
    b"{}",
    b'{"error": "no"}',
    b'{"error": {"code": 7, "type": []}}',
    b'{"error": []}',
    b"<html>",
    b"",
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("body", ODD_BODIES)
async def test_whatever_is_answered_no_exception_of_the_library_leaves(body: bytes) -> None:
    async with open_crooked(Response(200, body, "application/json")) as url:
        driver = StripeDriver(url, KEY, "zlh", seconds=5)
        for name, call in READS.items():
            with pytest.raises((Invalid, Unreachable)):
                raise AssertionError(f"{name} believed it: {await call(driver)}")
        for call in CHANGES.values():
            # Some are not asked what became of it: they are done, or not ours to understand.
            try:
                await call(driver)
            except (Invalid, Unreachable):
                pass
        await driver.aclose()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 429, 500, 503])
@pytest.mark.parametrize("body", ODD_ERRORS)
async def test_whatever_goes_wrong_it_is_an_error_of_ours(status: int, body: bytes) -> None:
    async with open_crooked(Response(status, body, "application/json")) as url:
        driver = StripeDriver(url, KEY, "zlh", seconds=5)
        for name in ("customer", "create_customer"):
            with pytest.raises(DriverError):
                await CALLS[name](driver)
        await driver.aclose()


@pytest.mark.parametrize(("quantity", "amount"), [(0, 0), (1, 900), (3, 2700), (None, 900)])
def test_what_a_subscription_costs_is_of_all_that_was_ordered(quantity: int | None, amount: int) -> None:
    item = {
        "id": "si_1",
        "price": {"id": "price_starter", "unit_amount": 900, "currency": "eur"},
        "quantity": quantity,
        "current_period_start": 1_772_366_400,
        "current_period_end": 1_775_044_800,
    }
    shape = SubscriptionShape.model_validate(
        {"id": "sub_1", "customer": "cus_1", "status": "active", "created": 1_772_366_400, "items": {"data": [item]}}
    )
    assert shape.model(datetime.now(UTC)).amount == amount
