"""Clocks that differ: ours and Stripe's by minutes, ours and itself by whatever it was set back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from tests.billing.till import Till
from zlh.billing.invariants import Kind, findings
from zlh.billing.reconciler import Reconciler
from zlh.simulators.stripe import Card

MONTH = timedelta(days=30)


class OurClock:
    """`ahead` of Stripe's by so much."""

    def __init__(self, stripes: Callable[[], datetime]) -> None:
        self._stripes = stripes
        self.ahead = timedelta()

    def now(self) -> datetime:
        return self._stripes() + self.ahead


@pytest.fixture
def clock(till: Till, monkeypatch: pytest.MonkeyPatch) -> OurClock:
    """That of everybody here who asks what time it is."""
    clock = OurClock(till.now)
    billing = till.billing
    for one in (
        billing.standings,
        billing.reconciler,
        billing.timekeeper,
        billing.looks,
        billing.desk,
        billing.carrier,
        billing.inbox,
    ):
        monkeypatch.setattr(one, "_now", clock.now)
    return clock


async def run_once(reconciler: Reconciler) -> None:
    """What it does each minute."""
    if await reconciler._due():
        await reconciler.reconcile("nightly")


async def test_a_page_that_is_over_by_our_clock_alone_is_not_left_open_beside_another(
    till: Till, clock: OurClock
) -> None:
    """Who is sent to a second one could pay at both."""
    ada = await till.account("ada")
    first = await till.open_page(ada, "starter")
    clock.ahead = timedelta(minutes=15)
    till.stripe.advance(50 * 60)
    second = await till.open_page(ada, "standard")
    pages = {one["id"]: one["status"] for one in till.stripe.of("checkout.session")}
    assert pages == {first: "expired", second: "open"}


async def test_whom_a_clock_that_was_ahead_suspended_is_looked_at_once_it_is_right(
    till: Till, clock: OurClock
) -> None:
    ada = await till.buy(await till.account("ada"))
    await till.container(ada)
    (paid,) = await till.subscriptions(ada)
    till.stripe.set_card(paid.customer_id, Card.DECLINED)
    await till.pass_time(days=33)
    ada = await till.again(ada)
    assert (ada.suspended_at, ada.suspends_at is not None) == (None, True)

    clock.ahead = MONTH
    while await till.billing.timekeeper.round():
        pass
    await run_once(till.billing.reconciler)
    assert (await till.again(ada)).suspended_at is not None

    clock.ahead = timedelta()
    await run_once(till.billing.reconciler)
    right = await till.again(ada)
    assert (right.suspended_at, right.suspends_at, right.plan) == (None, ada.suspends_at, "starter")


async def test_a_comparison_of_the_future_is_none(till: Till, clock: OurClock) -> None:
    """It says nothing of today, and keeps nothing from being compared or asked for."""
    await till.billing.reconciler.reconcile("nightly")
    clock.ahead = MONTH
    await run_once(till.billing.reconciler)
    clock.ahead = timedelta()
    assert Kind.NOT_COMPARED in {one.kind for one in findings(await till.billing.reconciler.books())}
    ada = await till.account("ada")
    till.stripe.pay(await till.open_page(ada, "starter"))
    till.lose()
    assert await till.billing.reconciler.catch_up() > 0
    await run_once(till.billing.reconciler)
    assert (await till.again(ada)).plan == "starter"
    assert findings(await till.billing.reconciler.books()) == []
