"""Subscriptions and accounts as tests of pure functions begin with them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.billing.till import PLANS
from zlh.model.accounts import Account, Role
from zlh.model.billing import Subscription, SubscriptionStatus

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
MONTH = timedelta(days=30)

__all__ = ["DAY", "MONTH", "NOW", "PLANS", "a_subscription", "an_account"]


def a_subscription(status: str = "active", plan: str = "starter", **changes: Any) -> Subscription:
    """Paid ten days ago for a month, and looked at just now."""
    price, amount = PLANS[plan].stripe_price, PLANS[plan].price_cents
    began = NOW - 10 * DAY
    plain = Subscription(
        id="sub_1",
        customer_id="cus_1",
        status=SubscriptionStatus(status),
        item_id="si_1",
        price_id=price,
        currency="eur",
        amount=amount,
        created_at=began,
        period_start=began,
        period_end=began + MONTH,
        looked_at=NOW,
    )
    return replace(plain, **changes)


def an_account(account_id: int = 1, **changes: Any) -> Account:
    """A customer who has a plan and pays for it."""
    values: dict[str, Any] = {
        "id": account_id,
        "email": f"customer{account_id}@example.com",
        "username": f"customer{account_id}",
        "password_hash": "x",
        "role": Role.CUSTOMER,
        "created_at": NOW - MONTH,
        "plan": "starter",
        "billing_status": "active",
    }
    return Account(**(values | changes))
