"""An invoice as it looks when it is made, and what a customer's balance does to it."""

from __future__ import annotations

from collections.abc import Sequence

from zlh.simulators.stripe import lists
from zlh.simulators.stripe.errors import Document

LEAST_CHARGE = 50


def settle(total: int, balance: int) -> tuple[int, int]:
    """What is charged, and the customer's balance afterwards. A negative balance is credit, a positive one is owed.
    What is too little for a charge is owed with the next invoice."""
    owed = total + balance
    return (owed, 0) if owed >= LEAST_CHARGE else (0, owed)


def bill(
    name: str, customer: Document, subscription: Document, reason: str, lines: Sequence[Document], now: int
) -> Document:
    """A draft with those lines."""
    total = sum(line["amount"] for line in lines)
    balance = customer.get("balance", 0)
    due, _ = settle(total, balance)
    for line in lines:
        line["invoice"] = name
    details = {
        "metadata": dict(subscription["metadata"]),
        "subscription": subscription["id"],
        "subscription_proration_date": None,
    }
    return {
        "id": name,
        "object": "invoice",
        "account_country": "DE",
        "account_name": "Simulated",
        "amount_due": due,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": due,
        "amount_shipping": 0,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "automatically_finalizes_at": None,
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": now,
        "currency": subscription["currency"],
        "custom_fields": None,
        "customer": subscription["customer"],
        "customer_email": customer.get("email"),
        "customer_name": customer.get("name"),
        "customer_phone": customer.get("phone"),
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "lines": lists.listed(lines, "") | {"total_count": len(lines)},
        "livemode": False,
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "parent": {
            "quote_details": None,
            "subscription_details": details,
            "type": "subscription_details",
        },
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": now,
        "period_start": now,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "starting_balance": balance,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "test_clock": subscription["test_clock"],
        "total": total,
        "total_discount_amounts": [],
        "total_excluding_tax": total,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": None,
    }
