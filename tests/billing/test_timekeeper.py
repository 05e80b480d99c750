from __future__ import annotations

from datetime import timedelta

import pytest
import trio

from tests.billing.till import PLANS, Till
from zlh.billing import open_billing
from zlh.billing.entitlements import GRACE, LATE, RETENTION
from zlh.model.accounts import Account
from zlh.model.errors import ForbiddenError, PlanLimitError
from zlh.model.plans import plan_of
from zlh.simulators.stripe import Card, FaultName


async def keep_time(till: Till) -> None:
    with trio.fail_after(30):
        while await till.billing.timekeeper.round():
            pass


async def an_owing(till: Till, *, server: bool = True) -> Account:
    """Somebody whose card does not work any more, a day into the grace."""
    ada = await till.buy(await till.account("ada"))
    if server:
        await till.container(ada)
    (one,) = await till.subscriptions(ada)
    till.stripe.set_card(one.customer_id, Card.DECLINED)
    await till.pass_time(seconds=(one.period_end - till.now() + timedelta(days=1)).total_seconds())
    ada = await till.again(ada)
    assert (ada.billing_status, ada.suspended_at) == ("past_due", None)
    return ada


async def test_a_grace_ends_in_a_suspension_and_a_payment_ends_that(till: Till) -> None:
    ada = await an_owing(till)
    ends = ada.suspends_at
    assert ends is not None
    await till.pass_time(deliver=False, seconds=(ends - till.now()).total_seconds() - 60)
    assert (await till.again(ada)).suspended_at is None
    await till.pass_time(deliver=False, seconds=120)
    ada = await till.again(ada)
    assert (ada.suspended_at, ada.suspends_at) == (ends, None)
    assert till.told[-1] == ada
    assert [act.action for act in till.acts] == ["billing.plan", "billing.suspended"]
    (one,) = await till.subscriptions(ada)
    till.stripe.fix_card(one.customer_id)
    await till.deliver()
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status, ada.suspended_at) == ("starter", "active", None)
    assert [act.action for act in till.acts][-1] == "billing.resumed"
    assert till.told[-1] == ada


@pytest.mark.parametrize("fault", [FaultName.REFUSING, FaultName.DOWN, FaultName.GARBAGE])
async def test_nobody_is_suspended_because_stripe_could_not_be_asked(till: Till, fault: FaultName) -> None:
    ada = await an_owing(till)
    till.stripe.cause(fault)
    for days in (8, 30):
        till.stripe.advance(days * 86400)
        await keep_time(till)
        ada = await till.again(ada)
        assert (ada.suspended_at, ada.plan) == (None, "starter")
    # It is tried again after a minute, and not all the time.
    asked = sum(till.stripe.calls.values())
    await keep_time(till)
    assert sum(till.stripe.calls.values()) == asked
    till.stripe.calm()
    till.stripe.advance(61)
    await keep_time(till)
    assert (await till.again(ada)).suspended_at is not None


async def test_who_paid_in_the_last_minute_is_not_suspended_though_nobody_told(till: Till) -> None:
    ada = await an_owing(till)
    await till.deliver()
    (one,) = await till.subscriptions(ada)
    till.stripe.advance(6 * 86400 - 3600)
    till.stripe.fix_card(one.customer_id)
    till.lose()
    till.stripe.advance(7200)
    await keep_time(till)
    ada = await till.again(ada)
    assert (ada.billing_status, ada.suspended_at) == ("active", None)
    assert "billing_suspended" not in await till.letters()


async def test_a_renewal_that_nobody_told_is_seen_a_while_after_the_period(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    (before,) = await till.subscriptions(ada)
    assert ada.billing_due_at == before.period_end + LATE
    till.stripe.advance((before.period_end - till.now()).total_seconds() + LATE.total_seconds() + 5)
    await keep_time(till)
    (after,) = await till.subscriptions(ada)
    assert after.period_start == before.period_end
    ada = await till.again(ada)
    assert ada.billing_due_at == after.period_end + LATE


async def test_what_ended_and_nobody_told_is_seen_too(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    await till.container(ada)
    (one,) = await till.subscriptions(ada)
    till.stripe.cancel(one.id)
    till.stripe.advance(40 * 86400)
    await keep_time(till)
    ada = await till.again(ada)
    assert (ada.billing_status, ada.suspended_at) == ("canceled", one.period_end)


async def test_whose_customer_became_another_installations_is_not_looked_at_all_the_time(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    (one,) = await till.subscriptions(ada)
    till.stripe.account.customers.retrieve(one.customer_id)["metadata"]["zlh_installation"] = "staging"
    till.stripe.advance(40 * 86400)
    await keep_time(till)
    assert (await till.again(ada)).plan == "starter"


async def test_who_owes_and_has_nothing_is_not_suspended_and_makes_nothing_new(till: Till) -> None:
    ada = await an_owing(till, server=False)
    await till.pass_time(days=8)
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status, ada.suspended_at) == (None, "past_due", None)
    assert plan_of(ada, PLANS) is None
    (one,) = await till.subscriptions(ada)
    till.stripe.fix_card(one.customer_id)
    await till.deliver()
    assert (await till.again(ada)).plan == "starter"


async def test_who_is_suspended_makes_nothing_new(till: Till) -> None:
    ada = await an_owing(till)
    await till.pass_time(days=8)
    with pytest.raises((ForbiddenError, PlanLimitError)) as refused:
        await till.container(ada)
    assert refused.value.code == "suspended"


async def test_what_was_given_ends_without_stripe(till: Till) -> None:
    billing = open_billing(
        till.database,
        PLANS,
        till.machines,
        None,
        told=till.told.append,
        note=lambda act, _ending: till.acts.append(act),
        mail=True,
        portal_url="https://portal/billing",
        now=till.now,
    )
    ada = await till.account("ada")
    until = till.now() + timedelta(days=3)
    ada = await billing.grants.give(ada.id, plan="studio", until=until, because="a test", exceptions={})
    assert (ada.plan, ada.billing_due_at) == ("studio", until)
    await till.container(ada)
    till.stripe.advance(3 * 86400 + 1)
    assert await billing.timekeeper.round() == 1
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status, ada.suspends_at) == ("studio", "past_due", until + GRACE)
    till.stripe.advance(GRACE.total_seconds())
    assert await billing.timekeeper.round() == 1
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status, ada.suspended_at) == (None, "inactive", until + GRACE)
    assert await billing.timekeeper.round() == 0
    till.stripe.advance(RETENTION.total_seconds())
    report = await billing.reconciler.reconcile("asked")
    assert {one["kind"] for one in report.findings} == {"unpaid_but_running", "teardown_due"}
    assert await till.letters() == ["subscription_begun", "plan_ending", "billing_suspended"]
    assert not till.stripe.calls


async def test_the_timekeeper_works_by_itself(till: Till) -> None:
    ada = await till.account("ada")
    until = till.now() + timedelta(minutes=1)
    await till.billing.grants.give(ada.id, plan="studio", until=until, because="a test", exceptions={})
    ended = trio.Event()
    till.billing.standings._told = lambda _account: ended.set()
    till.stripe.advance(61)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(till.billing.timekeeper.run, lambda **_: None)
        with trio.fail_after(30):
            await ended.wait()
        nursery.cancel_scope.cancel()
    assert (await till.again(ada)).billing_status == "past_due"
