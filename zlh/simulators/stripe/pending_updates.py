"""Changes that wait for the payment of their invoice, as with `payment_behavior=pending_if_incomplete`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from zlh.simulators.stripe.change import Plan
from zlh.simulators.stripe.errors import Document
from zlh.simulators.stripe.proration import Debit, Portion
from zlh.simulators.stripe.subscription import ENDED, period_of
from zlh.simulators.stripe.subscriptions import HOURS_TO_PAY, UPDATED

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account


class PendingUpdates:
    def __init__(self, account: Account) -> None:
        self._account = account

    def begin(self, owner: Document, plan: Plan) -> None:
        """Its prorations are invoiced and tried; the items stay as they are until that is paid."""
        tabs, now = self._account.tabs, self._account.now_of(owner)
        self.withdraw(owner)
        kept = tabs.debits(owner)
        fresh = tabs.pend(owner, plan, now)
        tabs.keep_debits(owner, fresh)
        with self._account.book.changing(owner, UPDATED):
            invoice = tabs.bill(owner, "subscription_update", whole=False)
            assert invoice is not None
            billed = tabs.debits(owner)
            tabs.keep_debits(owner, kept)
            secret = self._account.book.secret(owner["id"])
            secret["pending_update"] = {
                "invoice": invoice["id"],
                "portions": [asdict(portion) for portion in plan.portions],
                "prices": dict(plan.prices),
                "at": plan.at,
                "debits": [asdict(debit) for debit in [*plan.debits, *billed]],
            }
            owner["pending_update"] = {
                "billing_cycle_anchor": None,
                "expires_at": now + HOURS_TO_PAY,
                "subscription_items": [
                    {"id": one.item, "object": "subscription_item", "price": plan.prices[one.price]}
                    for one in plan.portions
                ],
                "trial_end": None,
                "trial_from_plan": None,
            }
        with self._account.book.changing(invoice, "invoice.updated"):
            invoice["auto_advance"] = False
        self._account.invoices.finalize(invoice)
        self._account.invoices.collect(invoice)

    def waits_for(self, owner: Document, invoice: Document) -> bool:
        waiting = self._account.book.secret(owner["id"]).get("pending_update")
        return waiting is not None and waiting["invoice"] == invoice["id"]

    def paid(self, owner: Document, invoice: Document) -> None:
        if not self.waits_for(owner, invoice):
            return
        waiting = self._account.book.secret(owner["id"]).pop("pending_update")
        if owner["status"] in ENDED:
            return
        portions = [Portion(**row) for row in waiting["portions"]]
        debits = [Debit(**row) for row in waiting["debits"]]
        start, end = period_of(owner)
        if start > waiting["at"]:
            # A new period has begun meanwhile.
            debits = self._account.tabs.debits(owner)
        anchor = owner["billing_cycle_anchor"]
        restored = Plan(portions, waiting["prices"], start, end, anchor, debits, [], False, waiting["at"])
        with self._account.book.changing(owner, UPDATED):
            owner["pending_update"] = None
            self._account.subscriptions.apply(owner, restored)
        self._account.book.tell("customer.subscription.pending_update_applied", owner)

    def withdraw(self, owner: Document) -> None:
        """No-op where nothing waits."""
        waiting = self._account.book.secret(owner["id"]).get("pending_update")
        invoice = None if waiting is None else self._account.invoices.retrieve(waiting["invoice"])
        if invoice is not None and invoice["status"] in ("open", "uncollectible"):
            self._account.invoices.void(invoice)

    def dropped(self, owner: Document, invoice: Document) -> None:
        """Its invoice was voided: nothing is changed any more."""
        if self.waits_for(owner, invoice):
            del self._account.book.secret(owner["id"])["pending_update"]
            with self._account.book.changing(owner, UPDATED):
                owner["pending_update"] = None

    def expire(self, owner: Document) -> None:
        self.withdraw(owner)
        self._account.book.tell("customer.subscription.pending_update_expired", owner)
