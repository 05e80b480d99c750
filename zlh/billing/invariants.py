"""Where money and machines disagree: a pure function of what the database, the fleet and Stripe were seen to say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from zlh.billing.entitlements import Entitlement, entitlement
from zlh.billing.standings import grant_of, standing, standing_of
from zlh.containers.cell import Cell
from zlh.model.accounts import Account
from zlh.model.billing import Dispute, Subscription
from zlh.model.billing_orders import Order
from zlh.model.containers import Container, Lifecycle, Power
from zlh.model.plans import Plan, Usage, exceeded_limits, plan_of_price, with_exceptions
from zlh.store.billing_customers import KnownCustomer

FOLLOWS_WITHIN: Final = timedelta(minutes=5)
"""A container is stopped or started within this time after its account was suspended or paid for."""

INBOX_WITHIN: Final = timedelta(minutes=10)
ORDERS_WITHIN: Final = timedelta(minutes=15)
COMPARED_WITHIN: Final = timedelta(hours=49)
"""Every night, and one that was missed."""

CLOSED_DISPUTES: Final = frozenset({"won", "warning_closed", "prevented"})


class Kind(StrEnum):
    """What can be wrong, and (the last two) what is only for a person to decide."""

    PAID_BUT_SUSPENDED = "paid_but_suspended"
    UNPAID_BUT_RUNNING = "unpaid_but_running"
    TWO_SUBSCRIPTIONS = "two_subscriptions"
    UNKNOWN_CUSTOMER = "unknown_customer"
    NO_ACCOUNT = "container_without_account"
    NO_PLAN = "container_without_plan"
    OVER_LIMIT = "over_limit"
    DISABLED_BUT_PAYING = "disabled_but_paying"
    UNKNOWN_PRICE = "unknown_price"
    WRONG_AMOUNT = "wrong_amount"
    DIFFERENT_AT_STRIPE = "different_at_stripe"
    STANDING_IS_OLD = "standing_is_old"
    INBOX_WAITS = "inbox_waits"
    ORDER_WAITS = "order_waits"
    NOT_COMPARED = "not_compared"
    DISPUTED = "payment_disputed"
    TEARDOWN_DUE = "teardown_due"

    @property
    def proposal(self) -> bool:
        return self in (Kind.DISPUTED, Kind.TEARDOWN_DUE)


@dataclass(frozen=True, slots=True)
class Finding:
    """`detail` is for a person; `repair` is what was done, or what is proposed."""

    kind: Kind
    detail: str
    account_id: int | None = None
    customer_id: str | None = None
    subscription_id: str | None = None
    vmid: int | None = None
    repair: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"kind": self.kind.value}


@dataclass(frozen=True, slots=True)
class Machine:
    """A container and its power as it was last seen."""

    row: Container
    power: Power

    @classmethod
    def of(cls, cell: Cell) -> Machine:
        return cls(cell.row, cell.observed.host.power)


@dataclass(frozen=True, slots=True)
class Books:
    """All that is compared. `inbox_oldest` is when the oldest event came that is not done; `compared_at` when
    Stripe's list was last compared whole, None for never; `selling` whether there is a Stripe at all."""

    accounts: Mapping[int, Account]
    customers: Mapping[str, KnownCustomer]
    subscriptions: Sequence[Subscription]
    machines: Sequence[Machine]
    plans: Mapping[str, Plan]
    disputes: Sequence[Dispute]
    orders: Sequence[Order]
    inbox_oldest: datetime | None
    inbox_error: str | None
    compared_at: datetime | None
    selling: bool
    now: datetime


def findings(books: Books) -> list[Finding]:
    """Every disagreement and every proposal; none of the former where all is well."""
    owned: dict[int, list[Machine]] = defaultdict(list)
    for machine in books.machines:
        owned[machine.row.owner_id].append(machine)
    paid: dict[int, list[Subscription]] = defaultdict(list)
    found = []
    for subscription in books.subscriptions:
        customer = books.customers.get(subscription.customer_id)
        account_id = customer.account_id if customer is not None else None
        if account_id is not None:
            paid[account_id].append(subscription)
        elif subscription.status.live:
            found.append(_of(subscription, Kind.UNKNOWN_CUSTOMER, "somebody pays who has no account here"))
        found += _price(subscription, books.plans, account_id)
    for account in books.accounts.values():
        found += _account(account, paid[account.id], owned[account.id], books)
    for owner_id in owned.keys() - books.accounts.keys():
        for machine in owned[owner_id]:
            detail = f"{machine.row.name} belongs to account {owner_id}, which does not exist"
            found.append(Finding(Kind.NO_ACCOUNT, detail, vmid=machine.row.vmid, repair="tear it down"))
    return found + list(_machinery(books))


def _account(
    account: Account, paid: Sequence[Subscription], owned: Sequence[Machine], books: Books
) -> Iterator[Finding]:
    entitled = entitlement(paid, grant_of(account), books.plans, books.now)
    live = [one for one in paid if one.status.live]
    if len(live) > 1:
        ids = ", ".join(sorted(one.id for one in live))
        repair = "cancel one at Stripe, and give back what it cost"
        yield Finding(Kind.TWO_SUBSCRIPTIONS, f"pays for {ids}", account.id, live[0].customer_id, repair=repair)
    if account.disabled_at is not None:
        for one in live:
            if one.cancel_at is None:
                detail = f"pays though the account is disabled since {account.disabled_at:%Y-%m-%d}"
                repair = "cancel it at Stripe, or enable the account"
                yield replace(_of(one, Kind.DISABLED_BUT_PAYING, detail, account.id), repair=repair)
    if standing_of(account) != standing(entitled, owns=bool(owned)):
        yield Finding(Kind.STANDING_IS_OLD, "what follows from its payments is not what is written", account.id)
    # What follows for machines follows from a look, which may be much later than what it saw.
    seen_at = max((one.looked_at for one in paid), default=account.created_at)
    present = [machine for machine in owned if machine.row.desired.lifecycle is Lifecycle.PRESENT]
    for machine in present:
        yield from _machine(account, entitled, machine, seen_at, books.now)
    yield from _limits(account, entitled, present, books)
    if owned and entitled.teardown_at is not None and entitled.teardown_at <= books.now:
        names = ", ".join(f"{machine.row.name} ({machine.row.vmid})" for machine in owned)
        detail = f"suspended since {entitled.suspended_at:%Y-%m-%d}: {names}"
        yield Finding(Kind.TEARDOWN_DUE, detail, account.id, repair="tear them down, if nobody wants them any more")


def _machine(
    account: Account, entitled: Entitlement, machine: Machine, seen_at: datetime, now: datetime
) -> Iterator[Finding]:
    row, suspended_at = machine.row, entitled.suspended_at
    changed_at = max(row.updated_at, seen_at)
    if suspended_at is not None:
        # While its data is fetched it is on.
        since = max(suspended_at, changed_at, row.desired.retrieval_until or suspended_at)
        if machine.power is Power.ON and now - since > FOLLOWS_WITHIN:
            detail = f"{row.name} runs, and is not paid for since {suspended_at:%Y-%m-%d}"
            yield Finding(Kind.UNPAID_BUT_RUNNING, detail, account.id, vmid=row.vmid)
        return
    if row.desired.suspended and account.suspended_at is None and now - changed_at > FOLLOWS_WITHIN:
        detail = f"{row.name} is suspended, and is paid for"
        yield Finding(Kind.PAID_BUT_SUSPENDED, detail, account.id, vmid=row.vmid)
    if entitled.plan is None and not account.role.sees_all and not row.desired.suspended:
        detail = f"{row.name} belongs to an account without a plan"
        yield Finding(Kind.NO_PLAN, detail, account.id, vmid=row.vmid, repair="give it a plan, or suspend it")


def _limits(account: Account, entitled: Entitlement, present: Sequence[Machine], books: Books) -> Iterator[Finding]:
    plan = books.plans.get(entitled.plan or "")
    if plan is None:
        return
    used = Usage.of((machine.row.ctype, machine.row.resources) for machine in present)
    exceeded = exceeded_limits(with_exceptions(plan, account.plan_exceptions), used)
    if exceeded:
        words = "; ".join(f"{one['wanted']} {one['unit']} of {one['allowed']}" for one in exceeded)
        repair = "ask for less use or a larger plan, or make an exception"
        yield Finding(Kind.OVER_LIMIT, f"more than {plan.name} allows: {words}", account.id, repair=repair)


def _price(subscription: Subscription, plans: Mapping[str, Plan], account_id: int | None) -> Iterator[Finding]:
    if not subscription.status.live:
        return
    plan = plan_of_price(plans, subscription.price_id)
    if plan is None:
        detail = f"pays {subscription.price_id}, which is no plan's price"
        yield _of(subscription, Kind.UNKNOWN_PRICE, detail, account_id)
    elif subscription.price_id == plan.stripe_price and (subscription.amount, subscription.currency) != (
        plan.price_cents,
        plan.currency,
    ):
        told = f"{subscription.amount} {subscription.currency}"
        detail = f"pays {told} for {plan.name}, which is shown as {plan.price_cents} {plan.currency}"
        yield _of(subscription, Kind.WRONG_AMOUNT, detail, account_id)


def _machinery(books: Books) -> Iterator[Finding]:
    if books.inbox_oldest is not None and books.now - books.inbox_oldest > INBOX_WITHIN:
        detail = f"an event of {books.inbox_oldest:%Y-%m-%d %H:%M} UTC is not done: {books.inbox_error or 'no error'}"
        yield Finding(Kind.INBOX_WAITS, detail)
    for order in books.orders:
        if books.now - order.created_at > ORDERS_WITHIN:
            yield Finding(Kind.ORDER_WAITS, f"{order.kind} {order.id}: {order.error or 'no error'}", order.account_id)
    if books.selling and (books.compared_at is None or abs(books.now - books.compared_at) > COMPARED_WITHIN):
        when = "never" if books.compared_at is None else f"last on {books.compared_at:%Y-%m-%d %H:%M} UTC"
        yield Finding(Kind.NOT_COMPARED, f"compared with Stripe {when}")
    for dispute in books.disputes:
        if dispute.status not in CLOSED_DISPUTES and dispute.status != "lost":
            customer = books.customers.get(dispute.customer_id or "")
            detail = f"{dispute.id}: {dispute.amount} {dispute.currency}, {dispute.reason}, {dispute.status}"
            account_id = customer.account_id if customer is not None else None
            yield Finding(
                Kind.DISPUTED, detail, account_id, dispute.customer_id, repair="answer it in Stripe's dashboard"
            )


def _of(subscription: Subscription, kind: Kind, detail: str, account_id: int | None = None) -> Finding:
    return Finding(kind, detail, account_id, subscription.customer_id, subscription.id)
