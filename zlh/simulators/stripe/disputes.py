"""Disputes: a customer denies a charge at the bank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zlh.simulators.stripe import lists, names
from zlh.simulators.stripe.errors import Document, Wrong
from zlh.simulators.stripe.form import Wish

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

WEEK = 7 * 86400


class Disputes:
    def __init__(self, account: Account) -> None:
        self._account = account

    def open(self, customer: str, reason: str = "fraudulent") -> Document:
        """The customer's last charge is disputed. Raises Wrong(400) where there is none."""
        charges = self._account.book.all("charge", customer=customer, disputed=False)
        if not charges:
            raise Wrong(400, f"Customer {customer} has no charge that can be disputed.")
        charge = charges[-1]
        now = self._account.now_of(charge)
        with self._account.book.changing(charge, None):
            charge["disputed"] = True
        return self._account.book.add(_dispute(charge, reason, now), "charge.dispute.created")

    def close(self, name: str, status: str) -> Document:
        """`won` or `lost`."""
        dispute = self.retrieve(name)
        with self._account.book.changing(dispute, None):
            dispute["status"] = status
        self._account.book.tell("charge.dispute.closed", dispute)
        return dispute

    def retrieve(self, name: str) -> Document:
        return self._account.book.find("dispute", name)

    def listing(self, wish: Wish) -> Document:
        charge, intent = wish.text("charge"), wish.text("payment_intent")
        everything = self._account.book.all("dispute")
        rows = [
            row
            for row in everything
            if (charge is None or row["charge"] == charge) and (intent is None or row["payment_intent"] == intent)
        ]
        return lists.page(rows, wish, "/v1/disputes", everything)


def _dispute(charge: Document, reason: str, now: int) -> Document:
    return {
        "id": names.make("dispute"),
        "object": "dispute",
        "amount": charge["amount"],
        "balance_transactions": [],
        "charge": charge["id"],
        "created": now,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {},
        "evidence_details": {
            "due_by": now + WEEK,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "network_reason_code": "10.4",
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {"brand": "visa", "case_type": "chargeback", "network_reason_code": "10.4"},
            "type": "card",
        },
        "reason": reason,
        "status": "needs_response",
    }
