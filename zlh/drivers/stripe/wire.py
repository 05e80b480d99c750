"""Stripe's objects as they come (API version 2026-10-28), as far as we read them, and what they become.

Shapes are those of the library's own resource files. Since 2025-03-31 a subscription's period is its item's, and an
invoice names its subscription in `parent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from zlh.drivers.errors import Invalid
from zlh.model.billing import (
    BillingEvent,
    Checkout,
    Customer,
    Dispute,
    Line,
    Preview,
    Subscription,
    SubscriptionStatus,
)

ACCOUNT = "zlh_account"
"""Whose a customer, a checkout or a subscription is: the name in Stripe's metadata."""

INSTALLATION = "zlh_installation"

Wire = TypeVar("Wire", bound="Shape")


def _identity(value: Any) -> Any:
    """The id of what may be expanded to the whole object."""
    return value.get("id") if isinstance(value, Mapping) else value


def _moment(value: Any) -> Any:
    """Unix seconds in whole numbers, as Stripe writes them."""
    if type(value) is not int or not 0 < value < 1 << 35:
        raise ValueError("a time in Unix seconds expected")
    return datetime.fromtimestamp(value, UTC)


Id = Annotated[str, BeforeValidator(_identity), Field(min_length=1, max_length=255)]
Moment = Annotated[datetime, BeforeValidator(_moment)]
Metadata = dict[str, str]


class Shape(BaseModel):
    """Strict: a number is no text. What we do not read may be anything."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class ListShape(Shape):
    """A page of a list. Both are always there: what has neither is no list, and not an empty one."""

    data: list[Any]
    has_more: bool


class PriceShape(Shape):
    id: Id
    unit_amount: int | None = None
    currency: str


class ItemShape(Shape):
    id: Id
    price: PriceShape
    quantity: int | None = 1
    current_period_start: Moment
    current_period_end: Moment


class ItemsShape(Shape):
    data: list[ItemShape] = Field(min_length=1)


class SubscriptionShape(Shape):
    id: Id
    customer: Id
    status: str
    created: Moment
    items: ItemsShape
    cancel_at: Moment | None = None
    cancel_at_period_end: bool = False
    ended_at: Moment | None = None
    schedule: Id | None = None
    metadata: Metadata = Field(default_factory=dict)

    def foreign(self, installation: str) -> bool:
        """Whether another installation made it."""
        return self.metadata.get(INSTALLATION, installation) != installation

    def model(
        self, looked_at: datetime, *, unpaid_since: datetime | None = None, next_price_id: str | None = None
    ) -> Subscription:
        """Of several items the first counts: we never make more. Raises Invalid for a status that is none."""
        item = self.items.data[0]
        try:
            status = SubscriptionStatus(self.status)
        except ValueError:
            raise Invalid(f"{self.id} has the status {self.status[:40]!r}") from None
        ends = item.current_period_end if self.cancel_at_period_end else None
        return Subscription(
            id=self.id,
            customer_id=self.customer,
            status=status,
            item_id=item.id,
            price_id=item.price.id,
            currency=item.price.currency,
            amount=(item.price.unit_amount or 0) * (1 if item.quantity is None else item.quantity),
            created_at=self.created,
            period_start=item.current_period_start,
            period_end=item.current_period_end,
            looked_at=looked_at,
            unpaid_since=unpaid_since,
            cancel_at=self.cancel_at or ends,
            ended_at=self.ended_at,
            schedule_id=self.schedule,
            next_price_id=next_price_id,
        )


class PhaseItemShape(Shape):
    price: Id


class PhaseShape(Shape):
    start_date: Moment
    end_date: Moment | None = None
    items: list[PhaseItemShape] = Field(min_length=1)


class ScheduleShape(Shape):
    id: Id
    status: str
    phases: list[PhaseShape]

    def next_price(self, after: datetime) -> str | None:
        """What it changes the price to at `after` or later."""
        for phase in self.phases:
            if phase.start_date >= after:
                return phase.items[0].price
        return None


class CustomerShape(Shape):
    id: Id
    deleted: bool = False
    metadata: Metadata = Field(default_factory=dict)

    def model(self, installation: str) -> Customer:
        foreign = self.metadata.get(INSTALLATION, installation) != installation
        return Customer(self.id, None if foreign else account_of(self.metadata), self.deleted, foreign)


class CheckoutShape(Shape):
    id: Id
    customer: Id | None = None
    url: str | None = None
    status: str | None = None
    expires_at: Moment

    def model(self) -> Checkout:
        return Checkout(
            self.id, self.customer, self.url, self.status == "open", self.status == "complete", self.expires_at
        )


class PageShape(Shape):
    url: str


class InvoiceShape(Shape):
    id: Id
    created: Moment
    amount_remaining: int


class LineParentItemShape(Shape):
    proration: bool = False


class LineParentShape(Shape):
    subscription_item_details: LineParentItemShape | None = None
    invoice_item_details: LineParentItemShape | None = None


class LineShape(Shape):
    amount: int
    description: str | None = None
    parent: LineParentShape | None = None

    @property
    def proration(self) -> bool:
        parent = self.parent
        if parent is None:
            return False
        details = parent.subscription_item_details or parent.invoice_item_details
        return details is not None and details.proration


class LinesShape(Shape):
    data: list[LineShape]


class PreviewShape(Shape):
    """An invoice that was not made. Its total is what would be asked for, of which the lines that are no prorations
    belong to the period after."""

    currency: str
    lines: LinesShape

    def model(self, at: datetime) -> Preview:
        lines = tuple(
            Line((line.description or "")[:200], line.amount, line.proration)
            for line in self.lines.data
            if line.proration
        )
        return Preview(self.currency, sum(line.amount for line in lines), lines, at)


class DisputeShape(Shape):
    id: Id
    amount: int
    currency: str
    status: str
    reason: str
    created: Moment

    def model(self, customer_id: str | None) -> Dispute:
        return Dispute(
            self.id, customer_id, self.amount, self.currency, self.status[:40], self.reason[:40], self.created
        )


class SubjectShape(Shape):
    """What an event is about; what is only to come has no id."""

    id: Id | None = None
    object: str = ""
    customer: Id | None = None


class EventDataShape(Shape):
    object: SubjectShape


class EventShape(Shape):
    id: Id
    type: str = Field(min_length=1, max_length=100)
    created: Moment
    livemode: bool
    data: EventDataShape

    def model(self) -> BillingEvent:
        subject = self.data.object
        customer = subject.id if subject.object == "customer" else subject.customer
        return BillingEvent(self.id, self.type, self.created, subject.id or "?", customer, self.livemode)


def account_of(metadata: Mapping[str, str]) -> int | None:
    """The account that the metadata name; None where they name none."""
    word = metadata.get(ACCOUNT, "")
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 18 else None


def read(shape: type[Wire], document: Any) -> Wire:
    """Raises Invalid, without a word of what came: it may be about a person."""
    try:
        return shape.model_validate(document)
    except ValidationError as error:
        where = ", ".join(".".join(map(str, item["loc"])) for item in error.errors(include_input=False)[:3])
        raise Invalid(f"Stripe's answer is not of the promised shape: {where}") from None
