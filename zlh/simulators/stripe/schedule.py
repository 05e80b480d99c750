"""A subscription schedule and its phases as Stripe shows them."""

from __future__ import annotations

from zlh.simulators.stripe import names
from zlh.simulators.stripe.errors import Document


def schedule_of(owner: Document, metadata: dict[str, str], now: int) -> Document:
    return {
        "id": names.make("subscription_schedule"),
        "object": "subscription_schedule",
        "application": None,
        "billing_mode": owner["billing_mode"],
        "canceled_at": None,
        "completed_at": None,
        "created": now,
        "current_phase": None,
        "customer": owner["customer"],
        "default_settings": {
            "application_fee_percent": None,
            "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
            "billing_cycle_anchor": "automatic",
            "billing_thresholds": None,
            "collection_method": "charge_automatically",
            "default_payment_method": None,
            "description": None,
            "invoice_settings": {"account_tax_ids": None, "days_until_due": None, "issuer": {"type": "self"}},
            "on_behalf_of": None,
            "transfer_data": None,
        },
        "end_behavior": "release",
        "livemode": False,
        "metadata": metadata,
        "pause_schedules": [],
        "phases": [],
        "released_at": None,
        "released_subscription": None,
        "status": "active",
        "subscription": owner["id"],
        "test_clock": owner["test_clock"],
    }


def phase_of(
    currency: str, items: list[tuple[str, int]], start: int, end: int, behavior: str, metadata: dict[str, str]
) -> Document:
    return {
        "add_invoice_items": [],
        "application_fee_percent": None,
        "billing_cycle_anchor": None,
        "billing_thresholds": None,
        "collection_method": None,
        "currency": currency,
        "default_payment_method": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "end_date": end,
        "invoice_settings": None,
        "items": [item_of(price, quantity) for price, quantity in items],
        "metadata": metadata,
        "on_behalf_of": None,
        "proration_behavior": behavior,
        "start_date": start,
        "transfer_data": None,
        "trial_end": None,
    }


def item_of(price: str, quantity: int) -> Document:
    return {
        "billing_thresholds": None,
        "discounts": [],
        "metadata": {},
        "plan": price,
        "price": price,
        "quantity": quantity,
        "tax_rates": [],
    }
