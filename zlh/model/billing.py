"""Money: what Stripe was seen to say of a customer. Amounts are whole numbers of the currency's minor unit (cents);
times are Stripe's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class SubscriptionStatus(StrEnum):
    """Stripe's words."""

    INCOMPLETE = "incomplete"
    INCOMPLETE_EXPIRED = "incomplete_expired"
    TRIALING = "trialing"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    UNPAID = "unpaid"
    PAUSED = "paused"
    CANCELED = "canceled"

    @property
    def live(self) -> bool:
        """Whether it is, or may become again, what a customer has; of these there should be one."""
        return self not in (self.INCOMPLETE, self.INCOMPLETE_EXPIRED, self.CANCELED)

    @property
    def owing(self) -> bool:
        """Whether it waits for money."""
        return self in (self.PAST_DUE, self.UNPAID, self.PAUSED)


class BillingStatus(StrEnum):
    """`billing_status` of the HTTP contract; None is who never had anything."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    PAST_DUE = "past_due"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as it was when we looked (`looked_at`, our clock, from before the question).

    `item_id` is its one item, `amount` what that costs a period. `unpaid_since` is when the oldest invoice was made
    that is still to be paid, where the status is `owing`. `cancel_at` is when it ends by itself, `ended_at` when it
    did. `next_price_id` is what its schedule changes it to at the end of the period.
    """

    id: str
    customer_id: str
    status: SubscriptionStatus
    item_id: str
    price_id: str
    currency: str
    amount: int
    created_at: datetime
    period_start: datetime
    period_end: datetime
    looked_at: datetime
    unpaid_since: datetime | None = None
    cancel_at: datetime | None = None
    ended_at: datetime | None = None
    schedule_id: str | None = None
    next_price_id: str | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """A plan that an operator gave, without Stripe. `until` None: for good."""

    plan: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Customer:
    """Stripe's customer. `account_id` is the account that it was made for, from its metadata; None where it says
    none. `foreign`: another installation, which has the same account at Stripe, made it."""

    id: str
    account_id: int | None
    deleted: bool = False
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout session: a page at Stripe on which somebody pays, or does not. `url` is None once it is over."""

    id: str
    customer_id: str | None
    url: str | None
    open: bool
    complete: bool
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an invoice."""

    text: str
    amount: int
    proration: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change of plan would cost: `due_now` at once, negative where something is given back, made of `lines`.
    `at` is the moment that it was reckoned for; the change costs this much if it names the same moment."""

    currency: str
    due_now: int
    lines: tuple[Line, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class Dispute:
    """A customer took a payment back by their bank."""

    id: str
    customer_id: str | None
    amount: int
    currency: str
    status: str
    reason: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class BillingEvent:
    """What a webhook says happened: where to look, and never what is there. `subject_id` is the object's id."""

    id: str
    type: str
    created_at: datetime
    subject_id: str
    customer_id: str | None
    livemode: bool = False
