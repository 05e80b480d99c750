"""Events: what happened, with the object as it was then. They are kept for 30 days."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from typing import TYPE_CHECKING

from zlh.simulators.stripe import lists, names
from zlh.simulators.stripe.clock import Line, line_of
from zlh.simulators.stripe.errors import Document, copied, invalid, missing
from zlh.simulators.stripe.form import Wish
from zlh.simulators.stripe.periods import DAY

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

KEPT = 30 * DAY


class Events:
    """`cause` is the request that is being answered, as events show it; `told` are all events since the beginning;
    `on_event` is told of each."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.cause: Document = {"id": None, "idempotency_key": None}
        self.told: list[Document] = []
        self.on_event: Callable[[Document], None] = lambda event: None

    def happened(self, kind: str, document: Document, previous: Document | None) -> None:
        line = self._line(document)
        data: Document = {"object": copied(document)}
        if previous:
            data["previous_attributes"] = copied(previous)
        event: Document = {
            "id": names.make("event"),
            "object": "event",
            "api_version": self._account.version,
            "created": self._account.clock.now(line),
            "data": data,
            "livemode": False,
            "pending_webhooks": 0,
            "request": dict(self.cause),
            "type": kind,
        }
        self._account.book.tables["event"][event["id"]] = event
        self._account.book.secret(event["id"])["line"] = line
        self.told.append(event)
        self.on_event(event)

    def _line(self, document: Document) -> Line:
        if document["object"] == "test_helpers.test_clock":
            return str(document["id"])
        customer = document.get("customer")
        if "test_clock" in document or not isinstance(customer, str):
            return line_of(document)
        owner = self._account.book.tables["customer"].get(customer)
        return None if owner is None else line_of(owner)

    def kept(self) -> list[Document]:
        """The oldest first; what is too old is forgotten."""
        table, hidden = self._account.book.tables["event"], self._account.book.hidden
        for name, event in list(table.items()):
            if event["created"] < self._account.clock.now(hidden[name]["line"]) - KEPT:
                del table[name], hidden[name]
        return list(table.values())

    def retrieve(self, name: str) -> Document:
        for event in self.kept():
            if event["id"] == name:
                return event
        raise missing("event", name)

    def listing(self, wish: Wish) -> Document:
        low, high = lists.within(wish)
        kind, kinds = wish.text("type"), wish.texts("types")
        wish.ignore("delivery_success")
        if kind is not None and kinds:
            raise invalid("types", "You may pass either `type` or `types`, but not both.")
        if len(kinds) > 20:
            raise invalid("types", "You may pass up to 20 types.")
        patterns = kinds or ([kind] if kind is not None else ["*"])
        kept = self.kept()
        rows = [
            event
            for event in kept
            if low <= event["created"] <= high
            and any(fnmatch.fnmatchcase(event["type"], pattern) for pattern in patterns)
        ]
        return lists.page(rows, wish, "/v1/events", kept)
