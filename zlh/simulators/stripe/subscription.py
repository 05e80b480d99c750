"""A subscription and its items as Stripe shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zlh.simulators.stripe import lists
from zlh.simulators.stripe.errors import Document
from zlh.simulators.stripe.proration import Portion

ENDED = ("canceled", "incomplete_expired")


def subscription(
    name: str, customer: Document, currency: str, metadata: Mapping[str, str], description: str | None, now: int
) -> Document:
    return {
        "id": name,
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": now,
        "billing_cycle_anchor_config": None,
        "billing_mode": {
            "flexible": {"proration_discounts": "included"},
            "type": "flexible",
            "updated_at": None,
        },
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": now,
        "currency": currency,
        "customer": customer["id"],
        "days_until_due": None,
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": description,
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "items": lists.listed([], f"/v1/subscription_items?subscription={name}") | {"total_count": 0},
        "latest_invoice": None,
        "livemode": False,
        "metadata": dict(metadata),
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": now,
        "status": "incomplete",
        "status_details": None,
        "test_clock": customer["test_clock"],
        "transfer_data": None,
        "trial_end": None,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": None,
    }


def item(portion: Portion, price: Document, owner: str, period: tuple[int, int], created: int) -> Document:
    return {
        "id": portion.item,
        "object": "subscription_item",
        "billed_until": period[1],
        "billing_thresholds": None,
        "created": created,
        "current_period_end": period[1],
        "current_period_start": period[0],
        "current_trial": None,
        "discounts": [],
        "metadata": {},
        "plan": _plan(price),
        "price": price,
        "quantity": portion.quantity,
        "subscription": owner,
        "tax_rates": [],
    }


def put_items(
    owner: Document,
    portions: Sequence[Portion],
    prices: Mapping[str, Document],
    period: tuple[int, int],
    now: int,
) -> None:
    """Items that are there already keep the time of their creation."""
    made = {one["id"]: one["created"] for one in owner["items"]["data"]}
    rows = [
        item(portion, prices[portion.price], owner["id"], period, made.get(portion.item, now)) for portion in portions
    ]
    owner["items"] = {**owner["items"], "data": rows, "total_count": len(rows)}


def period_of(owner: Document) -> tuple[int, int]:
    first = owner["items"]["data"][0]
    return first["current_period_start"], first["current_period_end"]


def _plan(price: Document) -> Document:
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": "per_unit",
        "created": price["created"],
        "currency": price["currency"],
        "interval": price["recurring"]["interval"],
        "interval_count": price["recurring"]["interval_count"],
        "livemode": False,
        "metadata": {},
        "meter": None,
        "nickname": None,
        "product": price["product"],
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }
