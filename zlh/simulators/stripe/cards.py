"""The cards of customers: each has one at most, and that works or does not."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from zlh.simulators.stripe import names
from zlh.simulators.stripe.errors import Document, Wrong, declined, missing

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account


class Card(StrEnum):
    NONE = "none"
    WORKS = "works"
    DECLINED = "declined"
    REQUIRES_ACTION = "requires_action"


class Cards:
    def __init__(self, account: Account) -> None:
        self._account = account

    def of(self, customer: str) -> Card:
        return Card(self._account.book.secret(customer).get("card", Card.NONE))

    def mark(self, customer: str, card: Card) -> None:
        """The card is from now on like that; nobody is told."""
        secret = self._account.book.secret(customer)
        if secret.get("payment_method") is None and card is not Card.NONE:
            self.enter(self._account.customers.living(customer), card)
        secret["card"] = str(card)

    def enter(self, customer: Document, card: Card = Card.WORKS) -> str:
        """The customer gives a new card, which everything is paid with from now on; its payment method's id."""
        method = _method(customer, self._account.clock.now(customer["test_clock"]))
        self._account.book.add(method, "payment_method.attached")
        secret = self._account.book.secret(customer["id"])
        secret["card"], secret["payment_method"] = str(card), method["id"]
        with self._account.book.changing(customer, "customer.updated"):
            customer["invoice_settings"]["default_payment_method"] = method["id"]
        return str(method["id"])

    def retrieve(self, name: str) -> Document:
        return self._account.book.find("payment_method", name)

    def method(self, customer: Document, name: str, param: str) -> Document:
        """Raises Wrong(400) where it is not a payment method of that customer."""
        method = self._account.book.find("payment_method", name, param)
        if method["customer"] != customer["id"]:
            raise missing(names.noun("payment_method"), name, param)
        return method

    def refusal(self, customer: str, **more: Any) -> Wrong | None:
        """Why it cannot be charged; None where it can."""
        match self.of(customer):
            case Card.WORKS:
                return None
            case Card.DECLINED:
                return declined("generic_decline", "Your card was declined.", **more)
            case Card.REQUIRES_ACTION:
                words = "Your card was declined. This transaction requires authentication."
                return declined("authentication_required", words, "authentication_required", **more)
            case Card.NONE:
                words = "This customer has no attached payment source or default payment method."
                return Wrong(400, words, code="resource_missing", executed=True)


def _method(customer: Document, created: int) -> Document:
    return {
        "id": names.make("payment_method"),
        "object": "payment_method",
        "allow_redisplay": "limited",
        "billing_details": {
            "address": None,
            "email": customer["email"],
            "name": customer["name"],
            "phone": None,
            "tax_id": None,
        },
        "card": {
            "brand": "visa",
            "country": "DE",
            "exp_month": 12,
            "exp_year": 2039,
            "funding": "credit",
            "last4": "4242",
        },
        "created": created,
        "customer": customer["id"],
        "livemode": False,
        "metadata": {},
        "type": "card",
    }
