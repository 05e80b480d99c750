"""Customers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zlh.simulators.stripe import lists, names
from zlh.simulators.stripe.clock import Line
from zlh.simulators.stripe.errors import Document, invalid, missing
from zlh.simulators.stripe.form import Wish

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

TEXTS = ("description", "email", "name", "phone")
MOST_CHARACTERS = 512


class Customers:
    def __init__(self, account: Account) -> None:
        self._account = account

    def create(self, wish: Wish) -> Document:
        texts = {name: _text(wish, name) for name in TEXTS}
        metadata, line = wish.metadata({}), wish.text("test_clock")
        wish.ignore("address", "preferred_locales", "tax_exempt")
        wish.finish()
        if line is not None:
            self._account.book.find("test_helpers.test_clock", line, "test_clock")
        return self.make(texts, metadata, line)

    def make(self, texts: dict[str, str | None], metadata: dict[str, str], line: Line = None) -> Document:
        name = names.make("customer")
        document: Document = {
            "id": name,
            "object": "customer",
            "address": None,
            "balance": 0,
            "created": self._account.clock.now(line),
            "currency": None,
            "default_source": None,
            "delinquent": False,
            **dict.fromkeys(TEXTS),
            "discount": None,
            "invoice_prefix": name[4:12].upper(),
            "invoice_settings": {
                "custom_fields": None,
                "default_payment_method": None,
                "footer": None,
                "rendering_options": None,
            },
            "livemode": False,
            "metadata": metadata,
            "next_invoice_sequence": 1,
            "preferred_locales": [],
            "shipping": None,
            "tax_exempt": "none",
            "test_clock": line,
        }
        document |= {name: value or None for name, value in texts.items()}
        return self._account.book.add(document, "customer.created")

    def living(self, name: str, param: str = "id") -> Document:
        """Raises Wrong where there is none, or it was deleted."""
        customer = self._account.book.find("customer", name, param)
        if customer.get("deleted"):
            raise missing("customer", name, param)
        return customer

    def retrieve(self, name: str) -> Document:
        """A deleted one is `{"id", "object", "deleted": true}`."""
        return self._account.book.find("customer", name)

    def update(self, name: str, wish: Wish) -> Document:
        customer = self.living(name)
        texts = {field: _text(wish, field) for field in TEXTS if field in wish}
        metadata = wish.metadata(customer["metadata"])
        settings = wish.inside("invoice_settings")
        method, balance = settings.text("default_payment_method"), wish.integer("balance")
        wish.ignore("address", "preferred_locales", "tax_exempt")
        wish.finish()
        if method:
            self._account.cards.method(customer, method, "invoice_settings[default_payment_method]")
        with self._account.book.changing(customer, "customer.updated"):
            customer |= {field: value or None for field, value in texts.items()}
            customer["metadata"] = metadata
            if method is not None:
                customer["invoice_settings"]["default_payment_method"] = method or None
            if balance is not None:
                customer["balance"] = balance
        return customer

    def delete(self, name: str) -> Document:
        """Its subscriptions end at once."""
        customer = self.living(name)
        for subscription in self._account.book.all("subscription", customer=name):
            self._account.subscriptions.end(subscription, "cancellation_requested")
        gone = {"id": name, "object": "customer", "deleted": True}
        self._account.book.tell("customer.deleted", customer)
        self._account.book.secret(name)["test_clock"] = customer["test_clock"]
        self._account.book.add(gone)
        return gone

    def listing(self, wish: Wish) -> Document:
        """Those with a test clock only where it is asked for."""
        low, high = lists.within(wish)
        email, line = wish.text("email"), wish.text("test_clock")
        everything = self._account.book.all("customer")
        rows = [
            customer
            for customer in everything
            if not customer.get("deleted")
            and customer["test_clock"] == line
            and (email is None or customer["email"] == email)
            and low <= customer["created"] <= high
        ]
        return lists.page(rows, wish, "/v1/customers", everything)


def _text(wish: Wish, name: str) -> str | None:
    value = wish.text(name)
    if value is not None and len(value) > MOST_CHARACTERS:
        raise invalid(name, f"Invalid string: {value[:20]}...; must be at most {MOST_CHARACTERS} characters")
    if name == "email" and value and ("@" not in value or " " in value):
        raise invalid("email", f"Invalid email address: {value}", "email_invalid")
    return value
