from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import trio
import trio.testing

from tests.billing.till import Till, as_received
from zlh.billing.inbox import LEASE
from zlh.drivers.errors import Invalid
from zlh.model.billing import BillingEvent
from zlh.simulators.stripe import FaultName
from zlh.store import billing_events, billing_reports
from zlh.store.billing_tables import billing_events as events


async def put(
    till: Till,
    event_id: str = "evt_1",
    kind: str = "invoice.paid",
    customer: str | None = "cus_x",
    subject: str = "in_1",
) -> bool:
    event = BillingEvent(event_id, kind, till.now(), subject, customer)
    return await till.database.run(billing_events.receive, event, till.now())


async def rows(till: Till) -> list[Any]:
    query = sa.select(events.c.id, events.c.attempts, events.c.done_at, events.c.due_at, events.c.last_error)
    return await till.database.run(lambda connection: list(connection.execute(query.order_by(events.c.id))))


async def waiting(till: Till) -> int:
    return (await till.database.run(billing_events.waiting))[0]


async def test_an_event_is_kept_once_however_often_it_comes(till: Till) -> None:
    assert await put(till)
    assert not await put(till)
    assert len(await rows(till)) == 1


async def test_what_a_customer_is_told_of_at_once_is_one_look(till: Till) -> None:
    ada = await till.account("ada")
    till.stripe.pay(await till.open_page(ada, "starter"))
    told = till.stripe.events
    assert len(told) > 5
    till.stripe.calls.clear()
    await till.deliver(told)
    asked = {call: times for call, times in till.stripe.calls.items() if call.startswith("GET /v1/customers/")}
    assert list(asked.values()) == [1]
    assert await waiting(till) == 0


@pytest.mark.parametrize(
    ("kind", "customer"),
    [
        ("price.updated", None),
        ("payout.paid", "cus_x"),
        ("v9.something.new", "cus_x"),
        ("invoice.paid", None),
        ("charge.succeeded", "cus_x"),
    ],
)
async def test_what_concerns_no_customer_of_ours_is_done_without_a_question(
    till: Till, kind: str, customer: str | None
) -> None:
    await put(till, kind=kind, customer=customer)
    assert await till.inbox.round() == 1
    assert await waiting(till) == 0
    assert not till.stripe.calls


async def test_an_event_about_a_customer_that_stripe_does_not_have_is_done(till: Till) -> None:
    await put(till, customer="cus_of_nobody")
    await till.inbox.round()
    assert await waiting(till) == 0


async def test_what_cannot_be_looked_at_waits_longer_and_longer_and_is_not_forgotten(till: Till) -> None:
    till.stripe.cause(FaultName.REFUSING)
    await put(till)
    pauses = []
    for _ in range(10):
        assert await till.inbox.round() == 1
        assert await till.inbox.round() == 0
        (row,) = await rows(till)
        assert (row.done_at, row.last_error) == (None, "Stripe does not accept our key")
        pauses.append((row.due_at - till.now()).total_seconds())
        till.stripe.advance(pauses[-1] + 1)
    assert [round(pause / 2) * 2 for pause in pauses[:4]] == [2, 4, 8, 16]
    assert pauses[-1] <= 300
    till.stripe.calm()
    await till.inbox.round()
    (row,) = await rows(till)
    assert row.done_at is not None
    assert row.last_error is None


async def test_one_customer_that_cannot_be_looked_at_holds_nobody_else_up(till: Till) -> None:
    ada = await till.account("ada")
    till.stripe.pay(await till.open_page(ada, "starter"))
    plain = till.driver.customer

    async def picky(customer_id: str) -> Any:
        if customer_id == "cus_bad":
            raise Invalid("an answer of no shape")
        return await plain(customer_id)

    till.driver.customer = picky  # type: ignore[method-assign]
    await put(till, "evt_bad", customer="cus_bad")
    await till.deliver()
    assert (await till.again(ada)).plan == "starter"
    assert await waiting(till) == 1


async def test_who_dies_over_an_event_leaves_it_to_the_next(till: Till) -> None:
    await put(till, customer="cus_of_nobody")
    (taken,) = await till.database.run(billing_events.take, till.now(), most=10, lease=LEASE)
    assert await till.inbox.round() == 0
    till.stripe.advance(LEASE.total_seconds() + 1)
    (again,) = await till.database.run(billing_events.take, till.now(), most=10, lease=LEASE)
    # Who took it too long ago changes nothing any more.
    await till.database.run(billing_events.done, taken, till.now())
    await till.database.run(billing_events.put_off, taken, till.now() + timedelta(days=1), "late")
    assert await waiting(till) == 1
    await till.database.run(billing_events.done, again, till.now())
    assert await waiting(till) == 0


async def test_two_workers_never_have_the_same_event(till: Till) -> None:
    for number in range(20):
        await put(till, f"evt_{number}", customer=f"cus_{number}")
    taken: list[str] = []

    async def take() -> None:
        while found := await till.database.run(billing_events.take, till.now(), most=3, lease=LEASE):
            taken.extend(event.id for event in found)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(take)
    assert len(taken) == len(set(taken)) == 20


async def test_a_dispute_is_kept_as_it_is_by_now_and_reported(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    (one,) = await till.subscriptions(ada)
    opened = till.stripe.dispute(one.customer_id)
    await till.deliver()
    (dispute,) = await till.database.run(billing_reports.all_disputes)
    assert (dispute.id, dispute.customer_id, dispute.amount) == (opened["id"], one.customer_id, 900)
    report = await till.billing.reconciler.reconcile("asked")
    (finding,) = report.findings
    assert (finding["kind"], finding["account_id"]) == ("payment_disputed", ada.id)
    # Nobody is suspended for it by a program.
    assert (await till.again(ada)).suspended_at is None


async def test_a_dispute_that_stripe_does_not_have_or_tell_of(till: Till) -> None:
    await put(till, "evt_1", "charge.dispute.created", None, "du_of_nobody")
    await till.inbox.round()
    assert await waiting(till) == 0
    till.stripe.cause(FaultName.REFUSING)
    await put(till, "evt_2", "charge.dispute.created", None, "du_1")
    await till.inbox.round()
    assert await waiting(till) == 1


async def test_news_are_worked_on_at_once(till: Till) -> None:
    ada = await till.account("ada")
    till.stripe.pay(await till.open_page(ada, "starter"))
    known = trio.Event()
    till.billing.standings._told = lambda account: known.set() if account.plan == "starter" else None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(till.inbox.run, lambda **_: None)
        # So that it waits for news, and not for the first look.
        await trio.testing.wait_all_tasks_blocked(0.05)
        for event in till.stripe.events:
            await till.database.run(billing_events.receive, as_received(event), till.now())
        with trio.fail_after(10):
            await known.wait()
        nursery.cancel_scope.cancel()


async def test_what_was_done_long_ago_is_forgotten_and_what_waits_is_not(till: Till) -> None:
    await put(till, "evt_done", customer=None)
    await till.inbox.round()
    till.stripe.cause(FaultName.REFUSING)
    await put(till, "evt_waits")
    await till.inbox.round()
    till.stripe.advance(86400)
    assert await till.database.run(billing_events.purge, till.now()) == 1
    assert [row.id for row in await rows(till)] == ["evt_waits"]
