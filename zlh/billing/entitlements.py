"""What a customer may do, as a pure function of what Stripe was seen to say, what an operator gave, and the time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from zlh.model.billing import BillingStatus, Grant, Subscription, SubscriptionStatus
from zlh.model.plans import Plan, covers, plan_of_price

LATE: Final = timedelta(hours=2)
"""A period that ended and was not renewed within this time is looked at: Stripe renews within an hour or so, and
tells, unless what it told was lost."""

GRACE: Final = timedelta(days=7)
RETENTION: Final = timedelta(days=30)
"""Of those whose plan is not known any more."""


@dataclass(frozen=True, slots=True)
class Entitlement:
    """`plan` names an entry of plans.toml. `suspends_at` is the end of the grace of somebody who owes money, who is
    suspended from `suspended_at` on; from `teardown_at` on teardown is proposed. `subscription_id` is the
    subscription that counts.

    Time alone makes it another at `changes_at`. At `look_at` Stripe has to be asked first: what is known was seen
    before, and nobody is suspended for what could not be seen.
    """

    plan: str | None = None
    status: BillingStatus | None = None
    suspends_at: datetime | None = None
    suspended_at: datetime | None = None
    teardown_at: datetime | None = None
    subscription_id: str | None = None
    changes_at: datetime | None = None
    look_at: datetime | None = None


def entitlement(
    subscriptions: Iterable[Subscription], grant: Grant | None, plans: Mapping[str, Plan], now: datetime
) -> Entitlement:
    """What an operator gave counts before what is paid, unless that is no smaller: nobody pays for nothing."""
    subscription = best(subscriptions)
    if subscription is not None and grant is not None and grant.until is not None and grant.until <= now:
        subscription = _owing_since(subscription, grant.until)
    paid = _paid(subscription, plans) if subscription is not None else Entitlement()
    if grant is None:
        return paid
    if grant.until is None or now < grant.until:
        if paid.status is BillingStatus.ACTIVE and _no_smaller(paid.plan, grant.plan, plans):
            return replace(paid, changes_at=grant.until)
        given = Entitlement(grant.plan, BillingStatus.ACTIVE, changes_at=grant.until)
        return replace(given, subscription_id=paid.subscription_id, look_at=paid.look_at)
    if paid.status in (BillingStatus.ACTIVE, BillingStatus.PAST_DUE):
        return paid
    left = replace(_run_out(grant, grant.until, plans, now), subscription_id=paid.subscription_id)
    # A subscription that ended before, while the plan was given, takes nothing of its grace.
    return paid if _later(paid.suspended_at, left.suspends_at or left.suspended_at) else left


def _no_smaller(paid: str | None, given: str, plans: Mapping[str, Plan]) -> bool:
    return paid is not None and given in plans and covers(plans[paid], plans[given])


def _owing_since(subscription: Subscription, at: datetime) -> Subscription:
    """Nobody waits for money while a plan is given: the grace of who owes some begins when that is over."""
    since = max(subscription.unpaid_since or subscription.period_start, at)
    return replace(subscription, unpaid_since=since) if subscription.status.owing else subscription


def best(subscriptions: Iterable[Subscription]) -> Subscription | None:
    """The one that counts: paid before owing before ended before never begun, and of equals the newest."""
    return max(subscriptions, key=lambda one: (_rank(one.status), one.created_at, one.id), default=None)


def _rank(status: SubscriptionStatus) -> int:
    if status in (SubscriptionStatus.ACTIVE, SubscriptionStatus.TRIALING):
        return 4
    if status.owing:
        return 3
    return {SubscriptionStatus.CANCELED: 2, SubscriptionStatus.INCOMPLETE: 1}.get(status, 0)


def _paid(subscription: Subscription, plans: Mapping[str, Plan]) -> Entitlement:
    plan = plan_of_price(plans, subscription.price_id)
    name = plan.name if plan is not None else None
    if subscription.status.owing:
        found = _owing(subscription, plan)
    elif subscription.status is SubscriptionStatus.CANCELED:
        ended = subscription.ended_at or subscription.period_end
        found = Entitlement(None, BillingStatus.CANCELED, suspended_at=ended, teardown_at=ended + _retention(plan))
    elif subscription.status.live:
        overdue = max(subscription.period_end, subscription.looked_at) + LATE
        found = Entitlement(name, BillingStatus.ACTIVE, look_at=overdue)
    else:
        found = Entitlement(None, BillingStatus.INACTIVE)
    return replace(found, subscription_id=subscription.id)


def _owing(subscription: Subscription, plan: Plan | None) -> Entitlement:
    name = plan.name if plan is not None else None
    ends = (subscription.unpaid_since or subscription.period_start) + (
        timedelta(days=plan.grace_days) if plan is not None else GRACE
    )
    owing = Entitlement(name, BillingStatus.PAST_DUE, teardown_at=ends + _retention(plan))
    if subscription.looked_at >= ends:
        return replace(owing, suspended_at=ends)
    # Before the end what is known was seen: who paid in the last minute is not suspended.
    return replace(owing, suspends_at=ends, teardown_at=None, look_at=ends)


def _run_out(grant: Grant, until: datetime, plans: Mapping[str, Plan], now: datetime) -> Entitlement:
    """What an operator gave until then, to somebody who has nothing else."""
    plan = plans.get(grant.plan)
    ends = until + (timedelta(days=plan.grace_days) if plan is not None else GRACE)
    if now < ends:
        return Entitlement(grant.plan, BillingStatus.PAST_DUE, suspends_at=ends, changes_at=ends)
    return Entitlement(None, BillingStatus.INACTIVE, suspended_at=ends, teardown_at=ends + _retention(plan))


def _later(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and one > other


def _retention(plan: Plan | None) -> timedelta:
    return timedelta(days=plan.retention_days) if plan is not None else RETENTION
