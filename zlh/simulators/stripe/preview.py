"""Previews of invoices: what a change would bill, without the change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zlh.simulators.stripe import lines, names, periods
from zlh.simulators.stripe.bill import bill
from zlh.simulators.stripe.change import Plan, portions_of
from zlh.simulators.stripe.errors import Document, Wrong, invalid
from zlh.simulators.stripe.form import Wish
from zlh.simulators.stripe.proration import credits_of
from zlh.simulators.stripe.subscription import ENDED, item, period_of

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account


class Preview:
    """With `always_invoice` it is the invoice that the change would make at once. Otherwise it is that of the next
    renewal, with the prorations on it."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def create(self, wish: Wish) -> Document:
        details = wish.inside("subscription_details")
        name, customer = wish.text("subscription"), wish.text("customer")
        owner = self._owner(name, customer)
        cancel_now, at_end = details.boolean("cancel_now"), details.boolean("cancel_at_period_end")
        dated = details.integer("proration_date")
        money = self._account.updates.money(owner, details)
        wish.ignore("currency", "preview_mode")
        details.ignore("metadata", "billing_mode")
        wish.finish()
        if details.raw("proration_behavior") == "none" and dated is not None:
            raise invalid(
                "subscription_details[proration_date]",
                "You cannot set `proration_date` when `proration_behavior` is `none`.",
            )
        start, end = period_of(owner)
        if money is not None:
            made, at_once = money.plan, money.at_once
        else:
            at = self._account.now_of(owner)
            given = credits_of(self._account.tabs.debits(owner), at) if cancel_now else []
            anchor = owner["billing_cycle_anchor"]
            made = Plan(
                portions_of(owner["items"]["data"]), self._prices(owner), start, end, anchor, [], given, False, at
            )
            at_once = bool(cancel_now)
        if at_end and not at_once:
            raise Wrong(
                404, "No upcoming invoices for customer: the subscription ends.", code="invoice_upcoming_none"
            )
        return self._invoice(owner, made, at_once=at_once, dated=made.at if money is not None else None)

    def _owner(self, name: str | None, customer: str | None) -> Document:
        if name is not None:
            owner = self._account.book.find("subscription", name, "subscription")
            if customer is not None and owner["customer"] != customer:
                raise invalid("subscription", "The subscription is not one of that customer.")
        elif customer is not None:
            rows = self._account.subscriptions.living(customer)["data"]
            if not rows:
                raise Wrong(404, f"No upcoming invoices for customer: {customer}", code="invoice_upcoming_none")
            owner = rows[-1]
        else:
            raise invalid("subscription", "You must pass one of `customer`, `subscription` or `schedule`.")
        if owner["status"] in ENDED:
            raise Wrong(404, f"No upcoming invoices for subscription: {owner['id']}", code="invoice_upcoming_none")
        return owner

    def _invoice(self, owner: Document, made: Plan, *, at_once: bool, dated: int | None) -> Document:
        tabs, now = self._account.tabs, self._account.now_of(owner)
        prices = {**self._prices(owner), **made.prices}
        # What is given back may have been paid for a price that it has no more.
        prices |= {one.price: self._account.prices.retrieve(one.price) for one in made.prorations}
        fresh = [
            lines.pending_item(one, owner, prices[one.price], tabs.product(prices[one.price]), now)
            for one in made.prorations
        ]
        pending = [*tabs.pending(owner), *fresh]
        rows = [lines.pending_line(one) for one in reversed(pending)]
        created = now
        if not at_once or made.renewed:
            start, end = made.start, made.end
            if not at_once:
                created, start = made.end, made.end
                interval = prices[made.portions[0].price]["recurring"]
                end = periods.around(made.anchor, interval["interval"], interval["interval_count"], start)[1]
            items = [item(one, prices[one.price], owner["id"], (start, end), now) for one in made.portions]
            rows += [lines.period_line(one, start, end, tabs.product(one["price"])) for one in items]
        customer = self._account.book.find("customer", owner["customer"])
        reason = "subscription_update" if at_once else "upcoming"
        name = f"upcoming_{names.make('invoice')}"
        invoice = bill(name, customer, owner, reason, rows, created)
        invoice["lines"]["url"] = f"/v1/invoices/{name}/lines"
        invoice["parent"]["subscription_details"]["subscription_proration_date"] = dated
        if not at_once:
            invoice |= {"next_payment_attempt": created + self._account.invoices.wait, "period_start": made.start}
        return invoice

    def _prices(self, owner: Document) -> dict[str, Document]:
        return {one["price"]["id"]: one["price"] for one in owner["items"]["data"]}
