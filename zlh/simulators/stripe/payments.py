"""Charges for invoices, and what records of them there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zlh.simulators.stripe import lists, names
from zlh.simulators.stripe.errors import Document, Wrong
from zlh.simulators.stripe.form import Wish

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account


class Payments:
    def __init__(self, account: Account) -> None:
        self._account = account

    def charge(self, invoice: Document) -> Wrong | None:
        """Charges what is due; why not, where the card refuses."""
        customer = invoice["customer"]
        intent = self._intent(invoice)
        refusal = self._account.cards.refusal(customer, payment_intent=intent)
        with self._account.book.changing(intent, None):
            if refusal is None:
                charge = self._charge(invoice, intent)
                intent |= {"status": "succeeded", "amount_received": intent["amount"], "latest_charge": charge["id"]}
            else:
                waits = refusal.error.get("code") == "authentication_required"
                intent["status"] = "requires_action" if waits else "requires_payment_method"
                intent["last_payment_error"] = {k: v for k, v in refusal.error.items() if k != "payment_intent"}
        return refusal

    def record(self, invoice: Document, amount: int) -> None:
        """The invoice was paid; with a charge, where there was something to charge."""
        if amount == 0:
            return
        now = self._account.now_of(invoice)
        intent = self._account.book.secret(invoice["id"])["payment_intent"]
        self._account.book.add(
            {
                "id": names.make("invoice_payment"),
                "object": "invoice_payment",
                "amount_paid": amount,
                "amount_requested": amount,
                "created": now,
                "currency": invoice["currency"],
                "invoice": invoice["id"],
                "is_default": True,
                "livemode": False,
                "payment": {"payment_intent": intent, "type": "payment_intent"},
                "status": "paid",
                "status_transitions": {"canceled_at": None, "paid_at": now},
            }
        )

    def of(self, invoice: Document) -> Document:
        rows = self._account.book.all("invoice_payment", invoice=invoice["id"])
        return lists.listed(rows, f"/v1/invoice_payments?invoice={invoice['id']}")

    def listing(self, wish: Wish) -> Document:
        invoice = wish.text("invoice")
        everything = self._account.book.all("invoice_payment")
        rows = [row for row in everything if invoice is None or row["invoice"] == invoice]
        return lists.page(rows, wish, "/v1/invoice_payments", everything)

    def charges(self, wish: Wish) -> Document:
        customer, intent = wish.text("customer"), wish.text("payment_intent")
        low, high = lists.within(wish)
        everything = self._account.book.all("charge")
        rows = [
            row
            for row in everything
            if (customer is None or row["customer"] == customer)
            and (intent is None or row["payment_intent"] == intent)
            and low <= row["created"] <= high
        ]
        return lists.page(rows, wish, "/v1/charges", everything)

    def charge_of(self, name: str) -> Document:
        return self._account.book.find("charge", name)

    def intent_of(self, name: str) -> Document:
        return self._account.book.find("payment_intent", name)

    def _intent(self, invoice: Document) -> Document:
        secret = self._account.book.secret(invoice["id"])
        name = secret.get("payment_intent")
        if name is not None:
            return self._account.book.find("payment_intent", name)
        name = names.make("payment_intent")
        secret["payment_intent"] = name
        return self._account.book.add(
            {
                "id": name,
                "object": "payment_intent",
                "amount": invoice["amount_due"],
                "amount_capturable": 0,
                "amount_received": 0,
                "canceled_at": None,
                "capture_method": "automatic",
                "client_secret": f"{name}_secret_simulated",
                "confirmation_method": "automatic",
                "created": self._account.now_of(invoice),
                "currency": invoice["currency"],
                "customer": invoice["customer"],
                "description": None,
                "last_payment_error": None,
                "latest_charge": None,
                "livemode": False,
                "metadata": {},
                "next_action": None,
                "payment_method": None,
                "payment_method_types": ["card"],
                "status": "requires_payment_method",
            }
        )

    def _charge(self, invoice: Document, intent: Document) -> Document:
        method = self._account.book.secret(invoice["customer"]).get("payment_method")
        intent["payment_method"] = method
        return self._account.book.add(
            {
                "id": names.make("charge"),
                "object": "charge",
                "amount": intent["amount"],
                "amount_captured": intent["amount"],
                "amount_refunded": 0,
                "balance_transaction": None,
                "billing_details": {"address": None, "email": None, "name": None, "phone": None, "tax_id": None},
                "captured": True,
                "created": self._account.now_of(invoice),
                "currency": intent["currency"],
                "customer": invoice["customer"],
                "description": None,
                "disputed": False,
                "failure_code": None,
                "failure_message": None,
                "fraud_details": {},
                "livemode": False,
                "metadata": {},
                "outcome": {"network_status": "approved_by_network", "type": "authorized"},
                "paid": True,
                "payment_intent": intent["id"],
                "payment_method": method,
                "payment_method_details": {"card": {"brand": "visa", "last4": "4242"}, "type": "card"},
                "receipt_email": None,
                "refunded": False,
                "status": "succeeded",
            }
        )
