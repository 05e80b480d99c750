"""Pausing a subscription as a whole, and resuming it. Other than `pause_collection`, it then has no periods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zlh.simulators.stripe import periods
from zlh.simulators.stripe.change import Plan, portions_of
from zlh.simulators.stripe.errors import Document, Wrong
from zlh.simulators.stripe.form import Wish
from zlh.simulators.stripe.proration import charges_of
from zlh.simulators.stripe.subscription import period_of, put_items
from zlh.simulators.stripe.subscriptions import UPDATED

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

CREDITS = ("now", "none", "item_current_period_start")
PAYMENTS = ("resume_on_payment_attempt", "resume_on_payment_success")


class Suspension:
    def __init__(self, account: Account) -> None:
        self._account = account

    def pause(self, name: str, wish: Wish) -> Document:
        owner = self._account.subscriptions.retrieve(name)
        wish.choice("type", "subscription", default="subscription")
        invoicing = wish.choice(
            "invoicing_behavior", "invoice", "pending_invoice_item", default="pending_invoice_item"
        )
        bill_for = wish.inside("bill_for")
        bill_for.ignore("outstanding_usage_through")
        credit = bill_for.inside("unused_time_from").choice("type", *CREDITS, default="now")
        wish.finish()
        if owner["status"] not in ("active", "past_due"):
            raise Wrong(400, f"A subscription that is {owner['status']} cannot be paused.")
        if owner["schedule"]:
            raise Wrong(400, "Cannot pause subscriptions with attached schedules.")
        now = self._account.now_of(owner)
        if credit != "none":
            self._account.tabs.credit_unused(owner, now if credit == "now" else period_of(owner)[0])
        with self._account.book.changing(owner, UPDATED):
            owner["status"] = "paused"
            owner["status_details"] = {
                "paused": {
                    "subscription": {"type": "pause_requested"},
                    "transitioned_at": now,
                    "type": "subscription",
                }
            }
            invoice = None
            if invoicing == "invoice":
                invoice = self._account.tabs.bill(owner, "subscription_update", whole=False)
        self._account.book.tell("customer.subscription.paused", owner)
        if invoice is not None:
            self._account.invoices.finalize(invoice)
            self._account.invoices.collect(invoice)
        return owner

    def resume(self, name: str, wish: Wish) -> Document:
        """A new period begins now; with `billing_cycle_anchor[type]=unchanged` the rest of the current one."""
        owner = self._account.subscriptions.retrieve(name)
        anchor = wish.inside("billing_cycle_anchor").choice("type", "now", "unchanged", default="now")
        payment = wish.choice("payment_behavior", *PAYMENTS, default=PAYMENTS[0])
        behavior = wish.choice("proration_behavior", "create_prorations", "always_invoice", "none", default="")
        wish.ignore("proration_date")
        wish.finish()
        if owner["status"] != "paused":
            raise Wrong(400, f"You can only resume a paused subscription. This one is {owner['status']}.")
        subscriptions, now = self._account.subscriptions, self._account.now_of(owner)
        with self._account.book.changing(owner, UPDATED):
            if anchor == "now":
                self._begin(owner, now)
            else:
                self._join(owner, now, prorated=behavior != "none")
            invoice = self._account.tabs.bill(owner, "subscription_update", whole=anchor == "now")
        if invoice is None:
            subscriptions.resumed(owner)
            return owner
        self._account.book.secret(owner["id"])["resuming"] = invoice["id"]
        self._account.invoices.finalize(invoice)
        refusal = self._account.invoices.collect(invoice)
        if refusal is not None and payment == PAYMENTS[0]:
            subscriptions.resumed(owner)
            subscriptions.unsettled(invoice, spent=False)
        return owner

    def _begin(self, owner: Document, now: int) -> None:
        items = owner["items"]["data"]
        interval = items[0]["price"]["recurring"]
        until = periods.later(now, interval["interval"], interval["interval_count"])
        prices = {item["price"]["id"]: item["price"] for item in items}
        put_items(owner, portions_of(items), prices, (now, until), now)
        owner["billing_cycle_anchor"] = now
        self._account.tabs.keep_debits(owner, [])

    def _join(self, owner: Document, now: int, *, prorated: bool) -> None:
        items = owner["items"]["data"]
        interval, anchor = items[0]["price"]["recurring"], owner["billing_cycle_anchor"]
        start, end = periods.around(anchor, interval["interval"], interval["interval_count"], now)
        portions = portions_of(items)
        prices = {item["price"]["id"]: item["price"] for item in items}
        rest = charges_of(portions, now, start, end) if prorated else []
        self._account.subscriptions.apply(owner, Plan(portions, prices, start, end, anchor, [], rest, False, now))
