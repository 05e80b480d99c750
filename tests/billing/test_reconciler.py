from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
import trio

from tests.billing.till import Till
from zlh.billing.invariants import findings
from zlh.model.containers import Power
from zlh.simulators.stripe import FaultName
from zlh.store import billing_reports
from zlh.store.tables import accounts


def kinds(report: Any) -> list[str]:
    return [one["kind"] for one in report.findings]


async def test_where_all_is_well_nothing_is_found_and_that_is_kept(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    await till.container(ada)
    report = await till.billing.reconciler.reconcile("asked")
    assert (report.why, report.error, list(report.findings)) == ("asked", None, [])
    assert await till.database.run(billing_reports.last) == report
    assert findings(await till.billing.reconciler.books()) == []


async def test_what_nobody_told_is_found_repaired_and_reported(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    bob = await till.account("bob")
    till.stripe.pay(await till.open_page(bob, "studio"))
    (adas,) = await till.subscriptions(ada)
    book = till.stripe.account.subscriptions
    book.end(book.retrieve(adas.id), "cancellation_requested")
    till.lose()
    report = await till.billing.reconciler.reconcile("nightly")
    repaired = {one["account_id"]: one for one in report.findings}
    assert {one["kind"] for one in report.findings} == {"different_at_stripe"}
    assert repaired.keys() == {ada.id, bob.id}
    assert all(one["repair"] == "looked at, and written" for one in report.findings)
    assert "canceled price_starter" in repaired[ada.id]["detail"]
    assert ((await till.again(ada)).billing_status, (await till.again(bob)).plan) == ("canceled", "studio")
    assert kinds(await till.billing.reconciler.reconcile("asked")) == []


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(till: Till) -> None:
    bob = await till.account("bob")
    till.stripe.pay(await till.open_page(bob, "studio"))
    till.lose()
    before = await till.again(bob)
    report = await till.billing.reconciler.reconcile("asked", dry_run=True)
    (finding,) = [one for one in report.findings if one["kind"] == "different_at_stripe"]
    assert finding["repair"] == "would be looked at"
    assert await till.again(bob) == before
    assert await till.subscriptions(bob) == []
    assert await till.database.run(billing_reports.last) is None


async def test_what_is_written_and_does_not_follow_is_reckoned_anew(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    wrong = sa.update(accounts).where(accounts.c.id == ada.id).values(plan="studio", billing_status="past_due")
    await till.database.run(lambda connection: connection.execute(wrong) and None)
    assert kinds(await till.billing.reconciler.reconcile("asked", dry_run=True))[0] == "standing_is_old"
    (finding,) = (await till.billing.reconciler.reconcile("asked")).findings
    assert (finding["kind"], finding["repair"]) == ("standing_is_old", "reckoned anew")
    assert (await till.again(ada)).plan == "starter"


async def test_without_stripe_it_is_said_that_nothing_was_compared_and_nobody_is_harmed(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    for fault in (FaultName.REFUSING, FaultName.GARBAGE):
        till.stripe.cause(fault)
        report = await till.billing.reconciler.reconcile("nightly")
        assert report.error is not None
        assert "not_compared" in kinds(report)
        till.stripe.calm()
    assert (await till.again(ada)).plan == "starter"
    # Once it was compared whole, that is good for two nights.
    assert kinds(await till.billing.reconciler.reconcile("nightly")) == []
    till.stripe.advance(3600)
    till.stripe.cause(FaultName.REFUSING)
    assert kinds(await till.billing.reconciler.reconcile("nightly")) == []
    till.stripe.advance(50 * 3600)
    assert "not_compared" in kinds(await till.billing.reconciler.reconcile("nightly"))


async def test_money_and_machines_that_disagree_are_named(till: Till) -> None:
    ada = await till.account("ada", plan=None)
    row = await till.container(ada)
    stopped = await till.container(await till.buy(await till.account("bob")))
    index = till.rows.index(stopped)
    long_ago = till.now() - timedelta(days=1)
    suspended = replace(stopped.desired, suspended=True)
    till.rows[index] = replace(stopped, desired=suspended, updated_at=long_ago)
    till.power[stopped.vmid] = Power.OFF
    till.stripe.advance(600)
    report = await till.billing.reconciler.reconcile("asked")
    assert {(one["kind"], one["vmid"]) for one in report.findings} == {
        ("container_without_plan", row.vmid),
        ("paid_but_suspended", stopped.vmid),
    }


async def test_an_event_that_cannot_be_read_hides_no_difference(till: Till) -> None:
    bob = await till.account("bob")
    till.stripe.pay(await till.open_page(bob, "studio"))
    till.stripe.events[-1]["livemode"] = "perhaps"
    till.lose()
    report = await till.billing.reconciler.reconcile("nightly")
    assert report.error is not None
    assert set(kinds(report)) == {"different_at_stripe", "not_compared"}
    assert (await till.again(bob)).plan == "studio"


async def test_two_at_once_wait_for_each_other(till: Till) -> None:
    bob = await till.account("bob")
    till.stripe.pay(await till.open_page(bob, "studio"))
    till.lose()
    reports = []

    async def ask() -> None:
        reports.append(await till.billing.reconciler.reconcile("asked"))

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(ask)
    assert [kinds(report) for report in reports] == [["different_at_stripe"], []]


async def test_events_that_never_came_are_asked_for(till: Till) -> None:
    ada = await till.account("ada")
    till.stripe.pay(await till.open_page(ada, "starter"))
    lost = len(till.stripe.events)
    till.lose()
    assert await till.billing.reconciler.catch_up() == lost
    assert await till.billing.reconciler.catch_up() == 0
    await till.deliver()
    assert (await till.again(ada)).plan == "starter"


async def test_events_that_were_lost_before_others_came_are_asked_for_too(till: Till) -> None:
    """That the newest came says nothing of those before."""
    await till.billing.reconciler.reconcile("nightly")
    ada = await till.account("ada")
    till.stripe.pay(await till.open_page(ada, "starter"))
    till.lose()
    till.stripe.advance(5 * 3600)
    bob = await till.buy(await till.account("bob"))
    assert bob.plan == "starter"
    assert (await till.again(ada)).plan is None
    assert await till.billing.reconciler.catch_up() > 0
    await till.deliver()
    assert (await till.again(ada)).plan == "starter"


async def test_a_dispute_whose_event_was_lost_is_found_at_night(till: Till) -> None:
    await till.billing.reconciler.reconcile("nightly")
    ada = await till.buy(await till.account("ada"))
    (one,) = await till.subscriptions(ada)
    till.stripe.dispute(one.customer_id)
    till.lose()
    till.stripe.advance(20 * 3600)
    await till.billing.reconciler.reconcile("nightly")
    await till.deliver()
    assert len(await till.database.run(billing_reports.all_disputes)) == 1


async def test_it_compares_by_itself_every_night(till: Till) -> None:
    bob = await till.account("bob")
    till.stripe.pay(await till.open_page(bob, "studio"))
    till.lose()
    for day in range(2):
        compared = trio.Event()

        def annotate(compared: trio.Event = compared, **said: Any) -> None:
            if "findings" in said:
                compared.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(till.billing.reconciler.run, annotate)
            with trio.fail_after(30):
                await compared.wait()
            nursery.cancel_scope.cancel()
        last = await till.database.run(billing_reports.last)
        assert last is not None
        assert last.why == "nightly"
        assert kinds(last) == (["different_at_stripe"] if day == 0 else [])
        await till.deliver([])
        # Until the next night there is nothing to do.
        assert not await till.billing.reconciler._due()
        till.stripe.advance(86400)
        assert await till.billing.reconciler._due()


async def test_one_that_could_not_ask_is_tried_again_soon(till: Till) -> None:
    till.stripe.cause(FaultName.REFUSING)
    await till.billing.reconciler.reconcile("nightly")
    assert not await till.billing.reconciler._due()
    till.stripe.advance(601)
    assert await till.billing.reconciler._due()
