"""What subscriptions have on their tabs: what was billed for the current period, and what waits to be billed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from zlh.simulators.stripe import lines
from zlh.simulators.stripe.change import Plan
from zlh.simulators.stripe.errors import Document
from zlh.simulators.stripe.proration import Debit, credits_of
from zlh.simulators.stripe.subscription import period_of

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account


class Tabs:
    def __init__(self, account: Account) -> None:
        self._account = account

    def bill(self, owner: Document, reason: str, *, whole: bool) -> Document | None:
        """A draft of what is pending, and of the items for the whole current period where `whole`; None where there
        is neither. The subscription knows of it, without an event."""
        pending = self.pending(owner)[::-1]
        rows = [lines.pending_line(one) for one in pending]
        debits = self.debits(owner)
        if whole:
            start, end = period_of(owner)
            items = owner["items"]["data"]
            whole_rows = [lines.period_line(one, start, end, self.product(one["price"])) for one in items]
            debits += [
                Debit(one["id"], one["price"]["id"], one["quantity"], row["amount"], start, end, line=row["id"])
                for one, row in zip(items, whole_rows, strict=True)
            ]
            rows += whole_rows
        if not rows:
            return None
        invoice = self._account.invoices.draft(owner, reason, rows)
        for one in pending:
            one["invoice"] = invoice["id"]
        by_item = {one["id"]: row["id"] for one, row in zip(pending, rows, strict=False)}
        ours = {row["id"] for row in rows}
        known = [replace(d, line=by_item.get(d.invoice_item or "", d.line)) for d in debits]
        self.keep_debits(owner, [replace(d, invoice=invoice["id"]) if d.line in ours else d for d in known])
        owner["latest_invoice"] = invoice["id"]
        return invoice

    def pend(self, owner: Document, plan: Plan, now: int) -> list[Debit]:
        """The prorations wait for an invoice; what they debit."""
        fresh = []
        for proration in plan.prorations:
            price = plan.prices.get(proration.price) or self._account.prices.retrieve(proration.price)
            item = lines.pending_item(proration, owner, price, self.product(price), now)
            self._account.book.add(item)
            if proration.credits is None:
                fresh.append(
                    Debit(
                        proration.item,
                        proration.price,
                        proration.quantity,
                        proration.amount,
                        proration.start,
                        proration.end,
                        invoice_item=item["id"],
                    )
                )
        return fresh

    def credit_unused(self, owner: Document, at: int) -> None:
        """What was billed for the time from then on is a pending credit."""
        given = credits_of(self.debits(owner), at)
        start, end = period_of(owner)
        prices = {one["price"]["id"]: one["price"] for one in owner["items"]["data"]}
        plan = Plan([], prices, start, end, owner["billing_cycle_anchor"], [], given, False, at)
        self.pend(owner, plan, at)
        self.keep_debits(owner, [])

    def debits(self, owner: Document) -> list[Debit]:
        return [Debit(**row) for row in self._account.book.secret(owner["id"]).get("debits", [])]

    def keep_debits(self, owner: Document, debits: Sequence[Debit]) -> None:
        self._account.book.secret(owner["id"])["debits"] = [asdict(debit) for debit in debits]

    def pending(self, owner: Document) -> list[Document]:
        """Invoice items that wait for an invoice, the oldest first."""
        customer = owner["customer"]
        return self._account.book.all("invoiceitem", customer=customer, subscription=owner["id"], invoice=None)

    def product(self, price: Document) -> str:
        return str(self._account.prices.product(price["product"])["name"])
