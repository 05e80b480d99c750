"""Subscriptions: what becomes of them when time passes and when invoices are paid or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zlh.simulators.stripe import lists, names, periods
from zlh.simulators.stripe.change import Plan
from zlh.simulators.stripe.dunning import End
from zlh.simulators.stripe.errors import Document
from zlh.simulators.stripe.form import Wish
from zlh.simulators.stripe.invoices import subscription_of
from zlh.simulators.stripe.proration import Portion
from zlh.simulators.stripe.subscription import ENDED, period_of, put_items, subscription

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

HOURS_TO_PAY = 23 * 3600
UPDATED = "customer.subscription.updated"
STATUSES = ("active", "past_due", "unpaid", "canceled", "incomplete", "incomplete_expired", "trialing", "paused")


class Subscriptions:
    def __init__(self, account: Account) -> None:
        self._account = account
        account.alarms.rule("subscription", self._due, self._pass_time)

    # From the beginning to the end

    def make(
        self,
        customer: Document,
        wanted: Sequence[tuple[Document, int]],
        metadata: Mapping[str, str],
        description: str | None = None,
        *,
        collect: bool = True,
    ) -> Document:
        """A subscription to prices and quantities, whose first invoice was tried where `collect`."""
        now = self._account.clock.now(customer["test_clock"])
        name, currency = names.make("subscription"), wanted[0][0]["currency"]
        made = subscription(name, customer, currency, metadata, description, now)
        interval = wanted[0][0]["recurring"]
        period = now, periods.later(now, interval["interval"], interval["interval_count"])
        portions = [
            Portion(names.make("subscription_item"), price["id"], quantity, price["unit_amount"])
            for price, quantity in wanted
        ]
        put_items(made, portions, {price["id"]: price for price, _ in wanted}, period, now)
        made["default_payment_method"] = self._account.book.secret(customer["id"]).get("payment_method")
        with self._account.book.changing(customer, "customer.updated"):
            customer["currency"] = currency
        invoice = self._account.tabs.bill(made, "subscription_create", whole=True)
        self._account.book.add(made, "customer.subscription.created")
        if invoice is not None:
            self._account.invoices.finalize(invoice)
            if collect:
                self._account.invoices.collect(invoice)
        return made

    def apply(self, owner: Document, plan: Plan) -> None:
        """Its items, period and pending invoice items become what was planned; nothing is billed."""
        now = self._account.now_of(owner)
        put_items(owner, plan.portions, plan.prices, (plan.start, plan.end), now)
        owner["billing_cycle_anchor"] = plan.anchor
        self._account.tabs.keep_debits(owner, plan.debits + self._account.tabs.pend(owner, plan, now))

    def end(self, owner: Document, reason: str | None, *, keep_pending: bool = False) -> None:
        """Ended now; nothing more is collected."""
        if owner["status"] in ENDED:
            return
        now = self._account.now_of(owner)
        self._account.schedules.orphan(owner)
        self._account.pending_updates.withdraw(owner)
        with self._account.book.changing(owner, None):
            owner |= {"status": "canceled", "ended_at": now, "canceled_at": owner["canceled_at"] or now}
            owner |= {"pending_update": None, "status_details": None}
            if reason is not None:
                owner["cancellation_details"] = {**owner["cancellation_details"], "reason": reason}
        if not keep_pending:
            for one in self._account.tabs.pending(owner):
                del self._account.book.tables["invoiceitem"][one["id"]]
        self._account.invoices.stop(owner)
        self._account.book.tell("customer.subscription.deleted", owner)

    # What invoices say

    def settled(self, invoice: Document) -> None:
        """Paid. What counts is the invoice that was finalized last."""
        owner = self._account.book.find("subscription", subscription_of(invoice))
        self._account.pending_updates.paid(owner, invoice)
        self._delinquent(owner, delinquent=False)
        last = self._account.invoices.last_finalized(owner)
        if last is None or last["status"] != "paid" or owner["status"] not in _WAITING:
            return
        if owner["status"] == "paused" and not self._resuming(owner, invoice):
            return
        self._become(owner, "active", resumed=owner["status"] == "paused")

    def unsettled(self, invoice: Document, *, spent: bool) -> None:
        """Not paid; `spent`: it will not be tried again."""
        owner = self._account.book.find("subscription", subscription_of(invoice))
        if owner["status"] in ENDED or self._account.pending_updates.waits_for(owner, invoice):
            return
        if owner["status"] == "active":
            self._become(owner, "past_due")
        self._delinquent(owner, delinquent=True)
        if not spent or owner["status"] == "unpaid":
            return
        match self._account.dunning.end:
            case End.UNPAID:
                self._become(owner, "unpaid")
            case End.CANCELED:
                self.end(owner, "payment_failed")
            case End.PAST_DUE:
                pass

    def voided(self, invoice: Document) -> None:
        owner = self._account.book.find("subscription", subscription_of(invoice))
        self._account.pending_updates.dropped(owner, invoice)
        last = self._account.invoices.last_finalized(owner)
        if owner["status"] in ("past_due", "unpaid") and (last is None or last["status"] == "paid"):
            self._become(owner, "active")

    def resumed(self, owner: Document) -> None:
        """It was paused and is no more."""
        self._become(owner, "active", resumed=True)

    def _become(self, owner: Document, status: str, *, resumed: bool = False) -> None:
        with self._account.book.changing(owner, UPDATED):
            owner["status"] = status
            if resumed:
                owner["status_details"] = None
        if resumed:
            self._account.book.secret(owner["id"]).pop("resuming", None)
            self._account.book.tell("customer.subscription.resumed", owner)

    def _resuming(self, owner: Document, invoice: Document) -> bool:
        return bool(self._account.book.secret(owner["id"]).get("resuming") == invoice["id"])

    def _delinquent(self, owner: Document, *, delinquent: bool) -> None:
        customer = self._account.book.find("customer", owner["customer"])
        if customer.get("deleted") or (not delinquent and self._account.invoices.owed(customer["id"])):
            return
        with self._account.book.changing(customer, "customer.updated"):
            customer["delinquent"] = delinquent

    # What time does

    def _due(self, owner: Document) -> int | None:
        status = owner["status"]
        if status in ENDED:
            return None
        if status == "incomplete":
            return int(owner["created"]) + HOURS_TO_PAY
        moments = [owner["cancel_at"]]
        if status != "paused":
            moments.append(period_of(owner)[1])
        if owner["pending_update"] is not None:
            moments.append(owner["pending_update"]["expires_at"])
        if owner["pause_collection"] is not None:
            moments.append(owner["pause_collection"]["resumes_at"])
        return min((moment for moment in moments if moment is not None), default=None)

    def _pass_time(self, owner: Document) -> None:
        now = self._account.now_of(owner)
        if owner["status"] == "incomplete":
            self._expire(owner)
        elif owner["pending_update"] is not None and owner["pending_update"]["expires_at"] <= now:
            self._account.pending_updates.expire(owner)
        elif owner["cancel_at"] is not None and owner["cancel_at"] <= now:
            self.end(owner, "cancellation_requested", keep_pending=True)
        elif (owner["pause_collection"] or {}).get("resumes_at") is not None and (
            owner["pause_collection"]["resumes_at"] <= now
        ):
            with self._account.book.changing(owner, UPDATED):
                owner["pause_collection"] = None
        else:
            self._renew(owner)

    def _expire(self, owner: Document) -> None:
        now = self._account.now_of(owner)
        with self._account.book.changing(owner, UPDATED):
            self._account.schedules.orphan(owner)
            owner |= {"status": "incomplete_expired", "ended_at": now}
        invoice = self._account.invoices.retrieve(owner["latest_invoice"])
        if invoice["status"] == "open":
            self._account.invoices.void(invoice)

    def _renew(self, owner: Document) -> None:
        start, end = period_of(owner)
        price = owner["items"]["data"][0]["price"]
        interval, every = price["recurring"]["interval"], price["recurring"]["interval_count"]
        with self._account.book.changing(owner, UPDATED):
            for item in owner["items"]["data"]:
                until = periods.around(owner["billing_cycle_anchor"], interval, every, end)[1]
                item |= {"current_period_start": end, "current_period_end": until, "billed_until": until}
            self._account.book.secret(owner["id"])["period_before"] = start
            self._account.tabs.keep_debits(owner, [])
            invoice = self._account.tabs.bill(owner, "subscription_cycle", whole=True)
        if invoice is not None:
            self._treat(owner, invoice)

    def _treat(self, owner: Document, invoice: Document) -> None:
        """What is done with the invoice of a renewal, where it does not simply wait."""
        pause = owner["pause_collection"]
        if owner["status"] == "unpaid" or (pause is not None and pause["behavior"] == "keep_as_draft"):
            self._account.invoices.leave(invoice)
        elif pause is not None and pause["behavior"] == "void":
            self._account.invoices.finalize(invoice)
            if invoice["status"] == "open":
                self._account.invoices.void(invoice)
        elif pause is not None:
            self._account.invoices.finalize(invoice)
            if invoice["status"] == "open":
                self._account.invoices.uncollectible(invoice)

    def living(self, customer: str) -> Document:
        """What a customer's `subscriptions` shows."""
        rows = [
            row for row in self._account.book.all("subscription", customer=customer) if row["status"] not in ENDED
        ]
        return lists.listed(rows[::-1], f"/v1/customers/{customer}/subscriptions")

    # Requests

    def retrieve(self, name: str) -> Document:
        return self._account.book.find("subscription", name)

    def listing(self, wish: Wish) -> Document:
        """Those that have not been canceled, unless another status is asked for. Those with a test clock only where
        it, or their customer, is asked for."""
        low, high = lists.within(wish)
        customer, price, line = wish.text("customer"), wish.text("price"), wish.text("test_clock")
        status = wish.choice("status", *STATUSES, "all", "ended", default="")
        wish.ignore("collection_method")
        everything = self._account.book.all("subscription")
        rows = [
            row
            for row in everything
            if _shown(row["status"], status)
            and (customer is None or row["customer"] == customer)
            and (price is None or any(item["price"]["id"] == price for item in row["items"]["data"]))
            and (row["test_clock"] == line or (line is None and customer is not None))
            and low <= row["created"] <= high
        ]
        return lists.page(rows, wish, "/v1/subscriptions", everything)


_WAITING = ("incomplete", "past_due", "unpaid", "paused")


def _shown(status: str, wanted: str) -> bool:
    if wanted == "all":
        return True
    if wanted == "ended":
        return status in ENDED
    return status != "canceled" if not wanted else status == wanted
