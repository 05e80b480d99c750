"""Invoices: a draft, finalized after a while, then paid, or tried again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zlh.simulators.stripe import lists, names
from zlh.simulators.stripe.bill import bill, settle
from zlh.simulators.stripe.errors import Document, Wrong, invalid
from zlh.simulators.stripe.form import Wish

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

STATUSES = ("draft", "open", "paid", "uncollectible", "void")


class Invoices:
    """`wait` is how many seconds the invoice of a renewal stays a draft."""

    def __init__(self, account: Account, wait: int) -> None:
        self._account = account
        self.wait = wait
        account.alarms.rule("invoice", _due, self._pass_time)

    # Of subscriptions

    def draft(self, subscription: Document, reason: str, lines: Sequence[Document]) -> Document:
        """What a subscription owes for these lines."""
        customer = self._account.book.find("customer", subscription["customer"])
        now = self._account.now_of(subscription)
        invoice = bill(names.make("invoice"), customer, subscription, reason, lines, now)
        invoice["lines"]["url"] = f"/v1/invoices/{invoice['id']}/lines"
        if reason == "subscription_cycle":
            begun = min(line["period"]["start"] for line in lines)
            invoice["period_start"] = self._account.book.secret(subscription["id"]).get("period_before", begun)
            invoice["automatically_finalizes_at"] = now + self.wait
        return self._account.book.add(invoice, "invoice.created")

    def leave(self, invoice: Document) -> None:
        """It stays a draft until somebody does something."""
        with self._account.book.changing(invoice, "invoice.updated"):
            invoice |= {"automatically_finalizes_at": None, "auto_advance": False}

    def stop(self, subscription: Document) -> None:
        """No more attempts: the subscription has ended."""
        for invoice in self._of(subscription, "draft", "open"):
            with self._account.book.changing(invoice, "invoice.updated"):
                invoice |= {"automatically_finalizes_at": None, "auto_advance": False, "next_payment_attempt": None}

    def finalize(self, invoice: Document) -> None:
        """What was owed or in credit before is taken into account; an invoice of nothing is paid."""
        customer = self._account.book.find("customer", invoice["customer"])
        now = self._account.now_of(invoice)
        with self._account.book.changing(customer, "customer.updated"):
            number = customer.get("next_invoice_sequence", 1)
            prefix = customer.get("invoice_prefix", "GONE")
            balance = customer.get("balance", 0)
            due, rest = settle(invoice["total"], balance)
            if not customer.get("deleted"):
                customer |= {"next_invoice_sequence": number + 1, "balance": rest}
        with self._account.book.changing(invoice, None):
            invoice |= {
                "amount_due": due,
                "amount_remaining": due,
                "automatically_finalizes_at": None,
                "effective_at": now,
                "ending_balance": rest,
                "hosted_invoice_url": f"{self._account.url}/i/{invoice['id']}",
                "number": f"{prefix}-{number:04}",
                "starting_balance": balance,
                "status": "open",
            }
            invoice["status_transitions"]["finalized_at"] = now
        self._account.book.tell("invoice.finalized", invoice)
        if due == 0:
            self._paid(invoice, 0)

    def collect(self, invoice: Document, *, automatic: bool = True) -> Wrong | None:
        """One attempt, where something is owed; why it failed."""
        if invoice["status"] not in ("open", "uncollectible"):
            return None
        refusal = self._account.payments.charge(invoice)
        if refusal is None:
            self._paid(invoice, invoice["amount_due"])
        else:
            self._failed(invoice, refusal, automatic=automatic)
        return refusal

    def void(self, invoice: Document) -> None:
        """What was taken from the customer's balance is given back."""
        customer = self._account.book.find("customer", invoice["customer"])
        if not customer.get("deleted") and invoice["ending_balance"] is not None:
            with self._account.book.changing(customer, "customer.updated"):
                customer["balance"] += invoice["starting_balance"] - invoice["ending_balance"]
        with self._account.book.changing(invoice, None):
            invoice |= {"status": "void", "auto_advance": False, "next_payment_attempt": None}
            invoice["status_transitions"]["voided_at"] = self._account.now_of(invoice)
        self._account.book.tell("invoice.voided", invoice)
        self._account.subscriptions.voided(invoice)

    def uncollectible(self, invoice: Document) -> None:
        with self._account.book.changing(invoice, None):
            invoice |= {"status": "uncollectible", "auto_advance": False, "next_payment_attempt": None}
            invoice["status_transitions"]["marked_uncollectible_at"] = self._account.now_of(invoice)
        self._account.book.tell("invoice.marked_uncollectible", invoice)

    def last_finalized(self, subscription: Document) -> Document | None:
        rows = self._of(subscription, "open", "paid", "uncollectible")
        return rows[-1] if rows else None

    def owed(self, customer: str) -> list[Document]:
        """What is open, the oldest first."""
        return [row for row in self._account.book.all("invoice", customer=customer) if row["status"] == "open"]

    # Requests

    def retrieve(self, name: str) -> Document:
        return self._account.book.find("invoice", name)

    def listing(self, wish: Wish) -> Document:
        low, high = lists.within(wish)
        customer, subscription = wish.text("customer"), wish.text("subscription")
        status = wish.choice("status", *STATUSES, default="")
        wish.ignore("collection_method")
        everything = self._account.book.all("invoice")
        rows = [
            row
            for row in everything
            if (customer is None or row["customer"] == customer)
            and (subscription is None or subscription_of(row) == subscription)
            and (not status or row["status"] == status)
            and low <= row["created"] <= high
            and (row["test_clock"] is None or customer or subscription)
        ]
        return lists.page(rows, wish, "/v1/invoices", everything)

    def lines(self, name: str, wish: Wish) -> Document:
        rows = self.retrieve(name)["lines"]["data"][::-1]
        return lists.page(rows, wish, f"/v1/invoices/{name}/lines", rows)

    def pay(self, name: str, wish: Wish) -> Document:
        """Raises Wrong(402) where the card refuses; the attempt counts."""
        invoice = self.retrieve(name)
        out_of_band = wish.boolean("paid_out_of_band")
        wish.ignore("off_session", "payment_method", "forgive")
        wish.finish()
        if invoice["status"] == "draft":
            self.finalize(invoice)
        elif invoice["status"] == "paid":
            raise Wrong(400, "Invoice is already paid", code="invoice_already_paid")
        elif invoice["status"] == "void":
            raise Wrong(400, "This invoice is void and can no longer be paid.", code="invoice_not_payable")
        if out_of_band and invoice["status"] != "paid":
            self._paid(invoice, invoice["amount_due"], recorded=False)
        refusal = self.collect(invoice, automatic=False)
        if refusal is not None:
            raise refusal
        return invoice

    def finalize_now(self, name: str, wish: Wish) -> Document:
        invoice = self.retrieve(name)
        wish.ignore("auto_advance")
        wish.finish()
        if invoice["status"] != "draft":
            raise invalid("invoice", "This invoice is already finalized, you can't re-finalize a non-draft invoice.")
        self.finalize(invoice)
        return invoice

    def void_now(self, name: str, wish: Wish) -> Document:
        invoice = self.retrieve(name)
        wish.finish()
        if invoice["status"] not in ("open", "uncollectible"):
            raise invalid("invoice", f"You can only void open invoices. This one is {invoice['status']}.")
        self.void(invoice)
        return invoice

    # What happens

    def _pass_time(self, invoice: Document) -> None:
        if invoice["status"] == "draft":
            self.finalize(invoice)
        self.collect(invoice)

    def _paid(self, invoice: Document, amount: int, *, recorded: bool = True) -> None:
        with self._account.book.changing(invoice, None):
            invoice |= {
                "amount_paid": amount,
                "amount_remaining": 0,
                "attempted": True,
                "auto_advance": False,
                "next_payment_attempt": None,
                "status": "paid",
            }
            if amount and not invoice["attempt_count"]:
                invoice["attempt_count"] = 1
            invoice["status_transitions"]["paid_at"] = self._account.now_of(invoice)
        if recorded:
            self._account.payments.record(invoice, amount)
        self._account.book.tell("invoice.paid", invoice)
        self._account.book.tell("invoice.payment_succeeded", invoice)
        self._account.subscriptions.settled(invoice)

    def _failed(self, invoice: Document, refusal: Wrong, *, automatic: bool) -> None:
        """Only automatic attempts, and the first, are counted, and lead to the next one."""
        secret = self._account.book.secret(invoice["id"])
        counted = automatic or not invoice["attempt_count"]
        first = secret.setdefault("first_failure", self._account.now_of(invoice))
        retried = invoice["billing_reason"] != "subscription_create" and invoice["auto_advance"]
        with self._account.book.changing(invoice, None):
            invoice["attempted"] = True
            if counted:
                invoice["attempt_count"] += 1
                following = self._account.dunning.next(first, invoice["attempt_count"])
                invoice["next_payment_attempt"] = following if retried else None
        self._account.book.tell("invoice.payment_failed", invoice)
        if refusal.error.get("code") == "authentication_required":
            self._account.book.tell("invoice.payment_action_required", invoice)
        spent = retried and counted and invoice["next_payment_attempt"] is None
        self._account.subscriptions.unsettled(invoice, spent=spent)

    def _of(self, subscription: Document, *statuses: str) -> list[Document]:
        return [
            row
            for row in self._account.book.all("invoice", customer=subscription["customer"])
            if subscription_of(row) == subscription["id"] and row["status"] in statuses
        ]


def _due(invoice: Document) -> int | None:
    if invoice["status"] == "draft":
        return invoice["automatically_finalizes_at"]  # type: ignore[no-any-return]
    return invoice["next_payment_attempt"] if invoice["status"] == "open" else None


def subscription_of(invoice: Document) -> str:
    return str(invoice["parent"]["subscription_details"]["subscription"])
