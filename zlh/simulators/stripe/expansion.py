"""`expand[]`: ids become the objects that they name, and lists that are left out otherwise are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zlh.simulators.stripe.errors import Document, Wrong, copied

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

DEEPEST = 4
EXPANDABLE = {
    "charge": ("customer", "payment_intent"),
    "checkout.session": ("customer", "invoice", "subscription", "line_items"),
    "customer": ("subscriptions", "test_clock"),
    "dispute": ("charge", "payment_intent"),
    "invoice": ("customer", "payments", "test_clock", "default_payment_method"),
    "invoice_payment": ("invoice",),
    "payment_intent": ("customer", "latest_charge", "payment_method"),
    "payment_method": ("customer",),
    "price": ("product",),
    "product": ("default_price",),
    "subscription": ("customer", "latest_invoice", "default_payment_method", "schedule", "test_clock"),
    "subscription_schedule": ("customer", "subscription", "test_clock"),
}
# Where the way leads through parts that are no objects of their own.
THROUGH = ("parent", "subscription_details", "payment", "items", "lines", "data", "phases", "invoice_settings")
INNER = ("subscription", "payment_intent", "price", "default_payment_method")


class Expansion:
    def __init__(self, account: Account) -> None:
        self._account = account

    def of(self, document: Document, wanted: list[str]) -> Document:
        """A copy, with that in it. Raises Wrong(400) where something cannot be expanded."""
        if not wanted:
            return document
        shown: Document = copied(document)
        for path in wanted:
            parts = path.split(".")
            if len(parts) > DEEPEST + 1:
                raise Wrong(400, f"You cannot expand more than {DEEPEST} levels of a property.", param="expand")
            self._walk(shown, parts, path)
        return shown

    def _walk(self, place: Document, parts: list[str], path: str) -> None:
        name, rest = parts[0], parts[1:]
        kind = place.get("object")
        if kind == "list" and name == "data":
            for row in place["data"]:
                if rest:
                    self._walk(row, rest, path)
            return
        expandable = name in EXPANDABLE.get(str(kind), INNER if kind is None else ())
        if not expandable and name not in THROUGH:
            raise Wrong(400, f"This property cannot be expanded ({path}).", param="expand")
        if expandable and not isinstance(place.get(name), dict):
            place[name] = self._value(place, name)
        deeper = place.get(name)
        if rest and isinstance(deeper, dict):
            self._walk(deeper, rest, path)

    def _value(self, place: Document, name: str) -> Any:
        if name == "line_items":
            return copied(self._account.sessions.line_items(place["id"]))
        if name == "payments":
            return copied(self._account.payments.of(place))
        if name == "subscriptions":
            return copied(self._account.subscriptions.living(place["id"]))
        value = place.get(name)
        return copied(self._account.book.get(value)) if isinstance(value, str) else value
