"""Requests that change a subscription: its items, its end, how it is collected; and what waits for a payment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zlh.simulators.stripe.bill import settle
from zlh.simulators.stripe.change import BEHAVIORS, Plan, plan, wanted
from zlh.simulators.stripe.errors import Document, Wrong, invalid, missing
from zlh.simulators.stripe.form import DIGITS, Wish
from zlh.simulators.stripe.prices import same_interval
from zlh.simulators.stripe.subscription import ENDED, period_of
from zlh.simulators.stripe.subscriptions import UPDATED

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

PAYMENTS = ("allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete")
IGNORED = ("off_session", "payment_settings", "trial_settings", "collection_method", "billing_mode")


@dataclass(frozen=True)
class Money:
    """What a change of items leads to, and how it is to be paid."""

    plan: Plan
    at_once: bool
    payment: str


class Updates:
    def __init__(self, account: Account) -> None:
        self._account = account

    # Requests

    def create(self, wish: Wish) -> Document:
        customer = self._account.customers.living(wish.needed("customer"), "customer")
        chosen = []
        for one in wish.each("items"):
            price = self._account.prices.recurring(one.needed("price"), one.param("price"))
            quantity = one.integer("quantity")
            one.ignore("metadata")
            chosen.append((price, 1 if quantity is None else quantity))
        payment = wish.choice("payment_behavior", *PAYMENTS, default="allow_incomplete")
        method, metadata, words = wish.text("default_payment_method"), wish.metadata({}), wish.text("description")
        wish.ignore(*IGNORED, "proration_behavior")
        wish.finish()
        if not chosen:
            raise invalid("items", "Missing required param: items.", "parameter_missing")
        self.fits(customer, [price for price, _ in chosen], "items")
        if method:
            self._account.cards.method(customer, method, "default_payment_method")
        refusal = self._account.cards.refusal(customer["id"])
        if payment == "error_if_incomplete" and refusal is not None:
            raise refusal
        collect = payment != "default_incomplete"
        return self._account.subscriptions.make(customer, chosen, metadata, words, collect=collect)

    def fits(self, customer: Document, prices: Sequence[Document], param: str) -> None:
        """Raises Wrong(400) where a customer cannot have a subscription to those prices."""
        same_interval(list(prices), param)
        currencies = {price["currency"] for price in prices}
        for other in self._account.book.all("subscription", customer=customer["id"]):
            if other["status"] not in ENDED and other["currency"] not in currencies:
                words = "You cannot combine currencies on a single customer. This customer has an active "
                words += "subscription, subscription schedule, discount, quote, or invoice item with currency "
                raise Wrong(400, words + other["currency"], param=param)
        if len(currencies) != 1:
            raise invalid(param, "All prices on a subscription must have the same currency.")

    def update(self, name: str, wish: Wish) -> Document:
        owner = self._account.subscriptions.retrieve(name)
        subscriptions = self._account.subscriptions
        metadata = wish.metadata(owner["metadata"])
        details = wish.inside("cancellation_details")
        comment, feedback = details.text("comment"), details.text("feedback")
        words, method = wish.text("description"), wish.text("default_payment_method")
        ends = self._ends(owner, wish)
        pause = self._pause(wish)
        money = self.money(owner, wish)
        wish.ignore(*IGNORED)
        wish.finish()
        if owner["status"] in ENDED and (ends or pause is not _SAME or money or words is not None or method):
            raise Wrong(
                400,
                "A canceled subscription can only update its cancellation_details and metadata.",
                code="invalid_canceled_subscription_fields",
            )
        if owner["schedule"] and ends:
            raise Wrong(
                400,
                f"The subscription is managed by the subscription schedule `{owner['schedule']}`, and updating any "
                "cancelation behavior directly is not allowed. Please update the schedule instead.",
            )
        if method:
            customer = self._account.book.find("customer", owner["customer"])
            self._account.cards.method(customer, method, "default_payment_method")
        if money is not None and self._is_refused(owner, money):
            return self._refused(owner, money)
        invoice = None
        with self._account.book.changing(owner, UPDATED):
            owner["metadata"] = metadata
            owner |= ends
            if comment is not None or feedback is not None:
                old = owner["cancellation_details"]
                owner["cancellation_details"] = {**old, "comment": comment or None, "feedback": feedback or None}
            if words is not None:
                owner["description"] = words or None
            if method is not None:
                owner["default_payment_method"] = method or None
            if pause is not _SAME:
                owner["pause_collection"] = pause
            if money is not None:
                subscriptions.apply(owner, money.plan)
                if money.at_once:
                    whole = money.plan.renewed
                    invoice = self._account.tabs.bill(owner, "subscription_update", whole=whole)
                self._account.schedules.follow(owner)
        if invoice is not None and money is not None:
            self._account.invoices.finalize(invoice)
            if money.payment != "default_incomplete":
                self._account.invoices.collect(invoice)
            elif invoice["status"] == "open":
                subscriptions.unsettled(invoice, spent=False)
        return owner

    def cancel(self, name: str, wish: Wish) -> Document:
        owner = self._account.subscriptions.retrieve(name)
        details = wish.inside("cancellation_details")
        comment, feedback = details.text("comment"), details.text("feedback")
        prorate, invoice_now = bool(wish.boolean("prorate")), bool(wish.boolean("invoice_now"))
        wish.finish()
        if owner["status"] in ENDED:
            raise missing("subscription", name)
        if comment or feedback:
            old = owner["cancellation_details"]
            owner["cancellation_details"] = {**old, "comment": comment or None, "feedback": feedback or None}
        if prorate:
            self._account.tabs.credit_unused(owner, self._account.now_of(owner))
        invoice = self._account.tabs.bill(owner, "subscription_update", whole=False) if invoice_now else None
        self._account.subscriptions.end(owner, "cancellation_requested", keep_pending=prorate)
        if invoice is not None:
            self._account.invoices.finalize(invoice)
            self._account.invoices.collect(invoice)
        return owner

    # What a change of items means

    def money(self, owner: Document, wish: Wish) -> Money | None:
        """None where nothing of the items changes. Raises Wrong(400)."""
        behavior = wish.choice("proration_behavior", *BEHAVIORS, default="create_prorations")
        payment = wish.choice("payment_behavior", *PAYMENTS, default="allow_incomplete")
        date, anchor = wish.integer("proration_date"), self.anchored_now(wish)
        wishes = wish.each("items")
        if not wishes and not anchor:
            return None
        now = self._account.now_of(owner)
        start, end = period_of(owner)
        # What is paused may be long after its period.
        at = min(now, end) if date is None else date
        if not start <= at <= end:
            words = "Cannot specify a proration date outside of the current billing period."
            raise invalid(wish.param("proration_date"), words)
        items = owner["items"]["data"]
        prices = {item["price"]["id"]: item["price"] for item in items}
        for one in wishes:
            raw = one.raw("price")
            if isinstance(raw, str) and raw not in prices:
                prices[raw] = self._account.prices.recurring(raw, one.param("price"))
        portions = wanted(items, wishes, prices)
        chosen = [prices[portion.price] for portion in portions]
        if any(price["currency"] != owner["currency"] for price in chosen):
            raise Wrong(
                400,
                f"The price specified supports currencies of `{chosen[0]['currency']}`. This doesn't match the "
                f"expected currency: `{owner['currency']}`.",
                param="items",
            )
        same_interval(chosen, "items")
        debits = self._account.tabs.debits(owner)
        made = plan(owner, debits, portions, prices, at=at, behavior=behavior, anchored_now=anchor)
        return Money(made, made.renewed or behavior == "always_invoice", payment)

    def anchored_now(self, wish: Wish) -> bool:
        """In this version of the API, `billing_cycle_anchor[type]=now`."""
        if "billing_cycle_anchor" not in wish:
            return False
        return wish.inside("billing_cycle_anchor").choice("type", "now", "unchanged", default="unchanged") == "now"

    def _is_refused(self, owner: Document, money: Money) -> bool:
        """Whether it must be paid first, and is not."""
        if not money.at_once or money.payment not in ("error_if_incomplete", "pending_if_incomplete"):
            return False
        customer = self._account.book.find("customer", owner["customer"])
        due, _ = settle(self._total(owner, money.plan), customer["balance"])
        return due > 0 and self._account.cards.refusal(customer["id"]) is not None

    def _total(self, owner: Document, made: Plan) -> int:
        pending = sum(int(item["amount"]) for item in self._account.tabs.pending(owner))
        whole = sum(one.unit_amount * one.quantity for one in made.portions) if made.renewed else 0
        return pending + whole + sum(one.amount for one in made.prorations)

    def _refused(self, owner: Document, money: Money) -> Document:
        """Nothing is changed; or, with `pending_if_incomplete`, not until the invoice is paid."""
        refusal = self._account.cards.refusal(owner["customer"])
        assert refusal is not None
        if money.payment == "error_if_incomplete":
            raise refusal
        if money.plan.renewed:
            raise invalid("payment_behavior", "Pending updates that begin a new period are not simulated.")
        self._account.pending_updates.begin(owner, money.plan)
        return owner

    # What else is asked

    def _ends(self, owner: Document, wish: Wish) -> Document:
        """The fields that say when it ends, as they become."""
        at_end, at = wish.boolean("cancel_at_period_end"), wish.text("cancel_at")
        if at_end is not None and at is not None:
            raise invalid("cancel_at", "You cannot pass both `cancel_at` and `cancel_at_period_end`.")
        now, end = self._account.now_of(owner), period_of(owner)[1]
        if at_end is None and at is None:
            return {}
        if at == "" or at_end is False:
            details = {**owner["cancellation_details"], "reason": None}
            nothing = {"cancel_at_period_end": False, "cancel_at": None, "canceled_at": None}
            return {**nothing, "cancellation_details": details}
        moment = end
        if at is not None and at not in ("min_period_end", "max_period_end"):
            if not DIGITS.fullmatch(at) or int(at) <= now:
                raise invalid("cancel_at", "`cancel_at` must be in the future.")
            moment = int(at)
        details = {**owner["cancellation_details"], "reason": "cancellation_requested"}
        ends = {"cancel_at_period_end": bool(at_end), "cancel_at": moment, "canceled_at": now}
        return {**ends, "cancellation_details": details}

    def _pause(self, wish: Wish) -> Document | None:
        if wish.raw("pause_collection") == "":
            wish.text("pause_collection")
            return None
        if "pause_collection" not in wish:
            return _SAME
        inside = wish.inside("pause_collection")
        behavior = inside.choice("behavior", "keep_as_draft", "mark_uncollectible", "void", default="")
        if not behavior:
            raise invalid("pause_collection[behavior]", "Missing required param.", "parameter_missing")
        return {"behavior": behavior, "resumes_at": inside.integer("resumes_at")}


_SAME: Document = {"as": "it is"}
