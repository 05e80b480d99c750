from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.sale import DAY, MONTH, NOW, PLANS, a_subscription
from zlh.billing.entitlements import GRACE, LATE, RETENTION, Entitlement, best, entitlement
from zlh.model.billing import BillingStatus, Grant, Subscription, SubscriptionStatus
from zlh.model.plans import covers

PRICES = [plan.stripe_price for plan in PLANS.values() if plan.for_sale]

times = st.integers(-100 * 86400, 100 * 86400).map(lambda seconds: NOW + timedelta(seconds=seconds))


@st.composite
def subscriptions(
    draw: st.DrawFn, statuses: tuple[SubscriptionStatus, ...] = tuple(SubscriptionStatus)
) -> Subscription:
    began = draw(times)
    status = draw(st.sampled_from(statuses))
    return a_subscription(
        id=f"sub_{draw(st.integers(0, 10**9))}",
        status=status,
        price_id=draw(st.sampled_from([*PRICES, "price_of_nobody"])),
        created_at=began,
        period_start=began,
        period_end=began + MONTH,
        looked_at=draw(times),
        unpaid_since=draw(st.none() | times) if status.owing else None,
        ended_at=draw(st.none() | times) if status is SubscriptionStatus.CANCELED else None,
    )


grants = st.builds(Grant, st.sampled_from([*PLANS, "plan_of_nobody"]), st.none() | times)
several = st.lists(subscriptions(), max_size=4, unique_by=lambda one: one.id)
OWING = (SubscriptionStatus.PAST_DUE, SubscriptionStatus.UNPAID, SubscriptionStatus.PAUSED)
PAYING = (SubscriptionStatus.ACTIVE, SubscriptionStatus.TRIALING)


def stage(found: Entitlement, now: datetime) -> int:
    """How far it has come with somebody who does not pay."""
    if found.teardown_at is not None and found.suspended_at is not None and found.teardown_at <= now:
        return 3
    if found.suspended_at is not None:
        return 2
    return 1 if found.suspends_at is not None else 0


def essence(found: Entitlement) -> Entitlement:
    """Without when it is to be reckoned again."""
    return replace(found, look_at=None, changes_at=None)


# What each state of a subscription means


def test_who_never_had_anything_is_entitled_to_nothing_and_not_suspended() -> None:
    assert entitlement([], None, PLANS, NOW) == Entitlement()


@pytest.mark.parametrize("status", PAYING)
def test_who_pays_has_the_plan_of_the_price(status: str) -> None:
    found = entitlement([a_subscription(status, "studio")], None, PLANS, NOW)
    assert (found.plan, found.status, found.suspended_at) == ("studio", BillingStatus.ACTIVE, None)


def test_who_pays_a_former_price_has_the_plan_too() -> None:
    plans = {**PLANS, "starter": replace(PLANS["starter"], former_prices=("price_of_old",))}
    assert entitlement([a_subscription(price_id="price_of_old")], None, plans, NOW).plan == "starter"


def test_a_payment_that_is_missing_has_a_grace_that_begins_with_its_invoice() -> None:
    since = NOW - 3 * DAY
    found = entitlement([a_subscription("past_due", unpaid_since=since)], None, PLANS, NOW)
    assert (found.plan, found.status) == ("starter", BillingStatus.PAST_DUE)
    assert (found.suspends_at, found.look_at) == (since + GRACE, since + GRACE)
    assert (found.suspended_at, found.teardown_at) == (None, None)


def test_a_grace_that_is_over_suspends_once_it_was_seen_after_its_end() -> None:
    since = NOW - 8 * DAY
    seen_before = a_subscription("past_due", unpaid_since=since, looked_at=since + GRACE - timedelta(seconds=1))
    assert entitlement([seen_before], None, PLANS, NOW).suspended_at is None
    seen_after = replace(seen_before, looked_at=since + GRACE)
    found = entitlement([seen_after], None, PLANS, NOW)
    assert (found.suspended_at, found.teardown_at) == (since + GRACE, since + GRACE + RETENTION)
    assert found.look_at is None


def test_a_subscription_that_ended_suspends_from_its_end_and_proposes_teardown_after_the_retention() -> None:
    found = entitlement([a_subscription("canceled", ended_at=NOW - DAY)], None, PLANS, NOW)
    assert (found.plan, found.status) == (None, BillingStatus.CANCELED)
    assert (found.suspended_at, found.teardown_at) == (NOW - DAY, NOW - DAY + RETENTION)


@pytest.mark.parametrize("status", ["incomplete", "incomplete_expired"])
def test_what_was_never_paid_gives_nothing_and_takes_nothing(status: str) -> None:
    found = entitlement([a_subscription(status)], None, PLANS, NOW)
    assert (found.plan, found.status, found.suspended_at) == (None, BillingStatus.INACTIVE, None)


def test_graces_are_those_of_the_plan() -> None:
    plans = {**PLANS, "starter": replace(PLANS["starter"], grace_days=2, retention_days=3)}
    found = entitlement([a_subscription("past_due", unpaid_since=NOW - 2 * DAY)], None, plans, NOW)
    assert (found.suspended_at, found.teardown_at) == (NOW, NOW + 3 * DAY)


def test_a_period_that_is_over_is_looked_at_before_anything_is_believed() -> None:
    paid = a_subscription(looked_at=NOW)
    assert entitlement([paid], None, PLANS, NOW).look_at == paid.period_end + LATE
    late = replace(paid, looked_at=paid.period_end + DAY)
    found = entitlement([late], None, PLANS, late.looked_at)
    assert (found.status, found.look_at) == (BillingStatus.ACTIVE, late.looked_at + LATE)


# Several, and what operators give


def test_one_that_is_paid_counts_before_one_that_owes_and_that_before_one_that_ended() -> None:
    paid = a_subscription(id="sub_1", created_at=NOW - 9 * DAY)
    owing = a_subscription("past_due", id="sub_2", created_at=NOW - 8 * DAY)
    ended = a_subscription("canceled", id="sub_3", created_at=NOW - 7 * DAY)
    begun = a_subscription("incomplete", id="sub_4", created_at=NOW - 6 * DAY)
    assert best([begun, ended, owing, paid]) == paid
    assert best([begun, ended, owing]) == owing
    assert best([begun, ended]) == ended


def test_what_an_operator_gives_counts_before_what_is_owed() -> None:
    owing = a_subscription("unpaid", unpaid_since=NOW - 20 * DAY)
    found = entitlement([owing], Grant("studio"), PLANS, NOW)
    assert (found.plan, found.status, found.suspended_at) == ("studio", BillingStatus.ACTIVE, None)


def test_a_plan_that_was_given_runs_out_into_a_grace_and_then_a_suspension() -> None:
    grant = Grant("starter", NOW)
    during = entitlement([], grant, PLANS, NOW - DAY)
    assert (during.plan, during.status, during.changes_at) == ("starter", BillingStatus.ACTIVE, NOW)
    grace = entitlement([], grant, PLANS, NOW)
    assert (grace.plan, grace.status, grace.suspends_at) == ("starter", BillingStatus.PAST_DUE, NOW + GRACE)
    over = entitlement([], grant, PLANS, NOW + GRACE)
    assert (over.plan, over.suspended_at, over.teardown_at) == (None, NOW + GRACE, NOW + GRACE + RETENTION)


def test_who_pays_when_a_given_plan_runs_out_has_what_is_paid() -> None:
    found = entitlement([a_subscription(plan="standard")], Grant("studio", NOW), PLANS, NOW)
    assert (found.plan, found.status) == ("standard", BillingStatus.ACTIVE)


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
def test_a_subscription_of_long_ago_takes_nothing_of_the_grace_of_a_plan_that_was_given(status: str) -> None:
    ended = a_subscription(status, ended_at=NOW - 300 * DAY)
    found = entitlement([ended], Grant("starter", NOW), PLANS, NOW)
    assert (found.plan, found.suspends_at, found.suspended_at) == ("starter", NOW + GRACE, None)
    over = entitlement([ended], Grant("starter", NOW), PLANS, NOW + GRACE)
    assert (over.suspended_at, over.teardown_at) == (NOW + GRACE, NOW + GRACE + RETENTION)


def test_a_subscription_that_ended_after_a_given_plan_did_counts_from_its_own_end() -> None:
    ended = a_subscription("canceled", ended_at=NOW + MONTH)
    found = entitlement([ended], Grant("starter", NOW), PLANS, NOW + MONTH)
    assert (found.status, found.suspended_at) == (BillingStatus.CANCELED, NOW + MONTH)


# Whatever the history


@given(several, st.none() | grants, times, st.randoms(use_true_random=False))
def test_the_order_of_subscriptions_does_not_matter(
    present: list[Subscription], grant: Grant | None, now: datetime, random: object
) -> None:
    mixed = list(present)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert entitlement(mixed, grant, PLANS, now) == entitlement(present, grant, PLANS, now)


@given(several, subscriptions(PAYING), st.none() | grants, times)
def test_who_pays_is_never_suspended_whatever_else_there_is(
    others: list[Subscription], paid: Subscription, grant: Grant | None, now: datetime
) -> None:
    """Neither is who pays a price that no plan has."""
    found = entitlement([*others, paid], grant, PLANS, now)
    assert (found.status, found.suspended_at, found.suspends_at) == (BillingStatus.ACTIVE, None, None)


@given(subscriptions(OWING), times)
def test_nobody_who_owes_is_suspended_before_the_grace_ended_and_that_was_seen(
    owing: Subscription, now: datetime
) -> None:
    found = entitlement([owing], None, PLANS, now)
    ends = (owing.unpaid_since or owing.period_start) + GRACE
    assert (found.suspended_at is not None) == (owing.looked_at >= ends)
    assert found.suspended_at in (None, ends)
    assert found.suspends_at in (None, ends)
    assert (found.suspended_at is None) != (found.suspends_at is None)


@given(several, grants.filter(lambda grant: grant.until is None), times)
def test_who_was_given_a_plan_for_good_never_has_less(
    present: list[Subscription], grant: Grant, now: datetime
) -> None:
    found = entitlement(present, grant, PLANS, now)
    assert (found.status, found.suspended_at, found.changes_at) == (BillingStatus.ACTIVE, None, None)
    if found.plan != grant.plan:
        assert found.plan is not None
        assert covers(PLANS[found.plan], PLANS[grant.plan])


@pytest.mark.parametrize("until", [None, NOW + DAY])
@pytest.mark.parametrize(
    ("paid", "given", "counts"),
    [
        ("standard", "starter", "standard"),
        ("starter", "standard", "standard"),
        ("starter", "starter", "starter"),
        ("studio", "unlimited", "unlimited"),
        ("starter", "plan_of_nobody", "plan_of_nobody"),
    ],
)
def test_nobody_pays_for_less_than_was_given_or_for_nothing(
    paid: str, given: str, counts: str, until: datetime | None
) -> None:
    """Whoever registers may be given a small plan, and buy a larger one."""
    found = entitlement([a_subscription(plan=paid)], Grant(given, until), PLANS, NOW)
    assert (found.plan, found.status, found.changes_at) == (counts, BillingStatus.ACTIVE, until)


@pytest.mark.parametrize("status", ["past_due", "canceled"])
def test_who_stops_paying_for_more_has_what_was_given(status: str) -> None:
    found = entitlement([a_subscription(status, plan="standard")], Grant("starter"), PLANS, NOW)
    assert (found.plan, found.status, found.suspends_at) == ("starter", BillingStatus.ACTIVE, None)


@given(subscriptions(OWING) | subscriptions((SubscriptionStatus.CANCELED,)), st.lists(times, min_size=2, max_size=8))
def test_for_who_does_not_pay_time_moves_through_grace_suspension_and_teardown_and_never_back(
    unpaid: Subscription, moments: list[datetime]
) -> None:
    """However often it is looked at, as long as nothing else happens."""
    stages = []
    for now in sorted(moments):
        seen = replace(unpaid, looked_at=now)
        stages.append(stage(entitlement([seen], None, PLANS, now), now))
    assert stages == sorted(stages)


@given(grants, st.lists(times, min_size=2, max_size=8))
def test_for_who_was_given_a_plan_time_moves_in_one_direction_too(grant: Grant, moments: list[datetime]) -> None:
    ordered = sorted(moments)
    stages = [stage(entitlement([], grant, PLANS, now), now) for now in ordered]
    assert stages == sorted(stages)


@given(several, st.none() | grants, times, st.floats(0, 1))
def test_nothing_changes_by_itself_before_it_is_said_to(
    present: list[Subscription], grant: Grant | None, now: datetime, part: float
) -> None:
    found = entitlement(present, grant, PLANS, now)
    end = found.changes_at or now + 500 * DAY
    assert end > now
    later = min(now + (end - now) * part, end - timedelta(microseconds=1))
    assert entitlement(present, grant, PLANS, later) == found


@given(several, times)
def test_what_is_given_until_a_time_is_another_thing_from_then_on(
    present: list[Subscription], until: datetime
) -> None:
    before = entitlement(present, Grant("studio", until), PLANS, until - timedelta(seconds=1))
    assert before.changes_at == until
    assert essence(before) != essence(entitlement(present, Grant("studio", until), PLANS, until)) or any(
        one.price_id == PLANS["studio"].stripe_price and one.status in PAYING for one in present
    )


@given(subscriptions(), times, st.floats(0, 1))
def test_looking_again_before_it_is_time_finds_the_same(one: Subscription, now: datetime, part: float) -> None:
    """Where nothing happened at Stripe: so nobody has to look any earlier."""
    found = entitlement([one], None, PLANS, now)
    if found.look_at is None:
        again = replace(one, looked_at=max(one.looked_at, NOW + 300 * DAY * part))
        assert entitlement([again], None, PLANS, now) == found
        return
    assert found.look_at > one.looked_at
    earlier = min(one.looked_at + (found.look_at - one.looked_at) * part, found.look_at - timedelta(microseconds=1))
    assert essence(entitlement([replace(one, looked_at=earlier)], None, PLANS, now)) == essence(found)
