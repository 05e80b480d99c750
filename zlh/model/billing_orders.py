"""Orders: what a customer asks of Stripe through us, recorded before it is told and carried out once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class OrderKind(StrEnum):
    """SUBSCRIBE opens a checkout page. SWITCH changes the plan now, SWITCH_LATER at the end of the period. CANCEL
    lets the subscription end with its period, RESUME takes that back."""

    SUBSCRIBE = "subscribe"
    SWITCH = "switch"
    SWITCH_LATER = "switch_later"
    CANCEL = "cancel"
    RESUME = "resume"


class OrderState(StrEnum):
    """OPEN until it is known what Stripe made of it."""

    OPEN = "open"
    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Order:
    """`arguments` are what was asked, `result` is what is known of it so far; `due_at` is when somebody else may take
    it up."""

    id: str
    account_id: int
    kind: OrderKind
    state: OrderState
    created_at: datetime
    updated_at: datetime
    due_at: datetime
    arguments: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    def key(self, step: str) -> str:
        """The idempotency key of one call: the same for every try of this order, and no other's."""
        return f"{self.id}-{step}"
