"""Lines of invoices, and the pending items that some of them come from."""

from __future__ import annotations

from typing import Any

from zlh.simulators.stripe import names
from zlh.simulators.stripe.errors import Document
from zlh.simulators.stripe.proration import Proration


def period_line(item: Document, start: int, end: int, product: str) -> Document:
    """An item for a whole period."""
    price, quantity = item["price"], item["quantity"]
    words = f"{quantity} x {product} (at {money(price['unit_amount'], price['currency'])} / " + (
        f"{price['recurring']['interval']})"
    )
    line = _line(price, price["unit_amount"] * quantity, quantity, words, start, end)
    return line | {"parent": _parent(item["subscription"], item["id"], None, proration=False, credited=None)}


def pending_item(
    proration: Proration, subscription: Document, price: Document, product: str, created: int
) -> Document:
    """What a change in the middle of a period leaves for the next invoice."""
    words = "Unused time on" if proration.credits else "Remaining time on"
    credited = None
    if proration.credits is not None:
        credited = {"invoice": proration.credits.invoice, "invoice_line_items": [proration.credits.line]}
    return {
        "id": names.make("invoiceitem"),
        "object": "invoiceitem",
        "amount": proration.amount,
        "credited": credited,
        "currency": subscription["currency"],
        "customer": subscription["customer"],
        "date": created,
        "description": f"{words} {product}",
        "invoice": None,
        "item": proration.item,
        "period": {"start": proration.start, "end": proration.end},
        "price": price,
        "quantity": proration.quantity,
        "subscription": subscription["id"],
    }


def pending_line(item: Document) -> Document:
    start, end = item["period"]["start"], item["period"]["end"]
    line = _line(item["price"], item["amount"], item["quantity"], item["description"], start, end)
    line["parent"] = _parent(
        item["subscription"], item["item"], item["id"], proration=True, credited=item["credited"]
    )
    return line


def _line(price: Document, amount: int, quantity: int, words: str, start: int, end: int) -> Document:
    return {
        "id": names.make("line_item"),
        "object": "line_item",
        "amount": amount,
        "currency": price["currency"],
        "description": words,
        "discount_amounts": [],
        "discountable": False,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "parent": None,
        "period": {"start": start, "end": end},
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "quantity": quantity,
        "quantity_decimal": str(quantity),
        "subscription": None,
        "subtotal": amount,
        "taxes": [],
    }


def _parent(subscription: str, item: str, invoice_item: str | None, *, proration: bool, credited: Any) -> Document:
    details = {
        "invoice_item": invoice_item,
        "proration": proration,
        "proration_details": {"credited_items": credited},
        "subscription": subscription,
        "subscription_item": item,
    }
    return {"invoice_item_details": None, "subscription_item_details": details, "type": "subscription_item_details"}


def money(amount: int, currency: str) -> str:
    """For people: €9.00."""
    sign, signs = "-" if amount < 0 else "", {"eur": "€", "usd": "$", "gbp": "£"}
    return f"{sign}{signs.get(currency, currency.upper() + ' ')}{abs(amount) // 100}.{abs(amount) % 100:02}"
