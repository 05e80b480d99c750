"""Ids as Stripe makes them: a prefix that says what it is, and letters that nobody guesses."""

from __future__ import annotations

import secrets
import string

ALPHABET = string.ascii_letters + string.digits + "xz"
PREFIXES = {
    "billing_portal.session": "bps_1",
    "charge": "ch_3",
    "checkout.session": "cs_test_a1",
    "customer": "cus_",
    "dispute": "du_1",
    "event": "evt_1",
    "invoice": "in_1",
    "invoice_payment": "inpay_1",
    "invoiceitem": "ii_1",
    "line_item": "il_1",
    "item": "li_1",
    "payment_intent": "pi_3",
    "payment_method": "pm_1",
    "price": "price_1",
    "product": "prod_",
    "request": "req_",
    "subscription": "sub_1",
    "subscription_item": "si_",
    "subscription_schedule": "sub_sched_1",
    "test_helpers.test_clock": "clock_1",
    "webhook_endpoint": "we_1",
}
LENGTHS = {"customer": 14, "product": 14, "request": 14, "subscription_item": 14, "checkout.session": 56}
NOUNS = {
    "billing_portal.session": "billing portal session",
    "invoiceitem": "invoice item",
    "payment_intent": "payment_intent",
    "subscription_schedule": "subscription schedule",
    "test_helpers.test_clock": "test clock",
    "payment_method": "PaymentMethod",
}


def make(kind: str) -> str:
    # Two of 64 letters are there twice, which nobody notices.
    letters = (ALPHABET[byte & 63] for byte in secrets.token_bytes(LENGTHS.get(kind, 23)))
    return PREFIXES[kind] + "".join(letters)


def noun(kind: str) -> str:
    """As messages call it."""
    return NOUNS.get(kind, kind)
