"""Every object of the account, as Stripe shows it, what else is known of each, and the events that changes make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from zlh.simulators.stripe import names
from zlh.simulators.stripe.errors import Document, copied, missing

KINDS = tuple(names.PREFIXES)


class Book:
    """`hidden` holds what no answer shows, by the id of its object. `on_change` is called with each object that was
    made or changed, `on_event` with the type, the object and the previous attributes."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Document]] = {kind: {} for kind in KINDS}
        self.hidden: dict[str, Document] = {}
        # Of each kind and customer, as far as was ever the customer's.
        self._of_customers: dict[tuple[str, str], dict[str, Document]] = {}
        self.changes = 0
        self.on_change: Callable[[Document], None] = lambda document: None
        self.on_event: Callable[[str, Document, Document | None], None] = lambda kind, document, previous: None

    def find(self, kind: str, name: str, param: str = "id") -> Document:
        """Raises Wrong(404), or Wrong(400) where a parameter names it."""
        document = self.tables[kind].get(name)
        if document is None:
            raise missing(names.noun(kind), name, param)
        return document

    def get(self, name: str) -> Document | None:
        """An object of any kind, by its id."""
        return next((table[name] for table in self.tables.values() if name in table), None)

    def all(self, kind: str, **wanted: Any) -> list[Document]:
        """The oldest first."""
        table = self.tables[kind]
        rows = table
        if "customer" in wanted:
            rows = self._of_customers.get((kind, wanted["customer"]), {})
        return [
            row
            for name, row in rows.items()
            if name in table and all(row.get(field) == value for field, value in wanted.items())
        ]

    def secret(self, name: str) -> Document:
        """What is hidden of one object; changes to it stay."""
        return self.hidden.setdefault(name, {})

    def add(self, document: Document, event: str | None = None) -> Document:
        self.tables[document["object"]][document["id"]] = document
        self.touch(document)
        if event is not None:
            self.on_event(event, document, None)
        return document

    def touch(self, document: Document) -> None:
        """Something of it, or hidden with it, is not as it was."""
        self.changes += 1
        customer = document.get("customer")
        if isinstance(customer, str):
            owned = self._of_customers.setdefault((document["object"], customer), {})
            owned[document["id"]] = document
        self.on_change(document)

    @contextmanager
    def changing(self, document: Document, event: str | None) -> Iterator[Document]:
        """An event with what was there before, if anything is different afterwards."""
        before = copied(document)
        yield document
        self.touch(document)
        previous = difference(before, document)
        if event is not None and previous:
            self.on_event(event, document, previous)

    def tell(self, event: str, document: Document) -> None:
        """An event without a change."""
        self.on_event(event, document, None)

    def export(self) -> Document:
        return {"tables": self.tables, "hidden": self.hidden}

    def load(self, state: Document) -> None:
        self.tables = {kind: state["tables"].get(kind, {}) for kind in KINDS}
        self.hidden = state["hidden"]
        self._of_customers = {}
        for table in self.tables.values():
            for document in table.values():
                self.touch(document)


def difference(before: Document, after: Document) -> Document:
    """What was different before: of plain objects only the parts that changed, of lists all."""
    previous: Document = {}
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict) and "object" not in old:
            previous[name] = difference(old, new)
        else:
            previous[name] = old
    return previous
