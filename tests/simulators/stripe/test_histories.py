"""Whatever is done in whatever order: the money adds up, and everything that changed was told."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.stripe.shop import PRICES, PRO, STARTER, YEARLY
from zlh.simulators.stripe import DAY, KEY, Card, Dunning, End, SimulatedStripe, Wrong
from zlh.simulators.stripe.book import difference
from zlh.simulators.stripe.form import Wish
from zlh.simulators.stripe.routes import find

Wishes = dict[str, Any]
ENDED = ("canceled", "incomplete_expired")

prices = st.sampled_from([STARTER, PRO, YEARLY, "price_cheap"])
proration = st.sampled_from(["always_invoice", "create_prorations", "none"])
payment = st.sampled_from(["allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"])
seldom = st.integers(0, 7)
waits = st.tuples(st.just("wait"), st.floats(0.01, 45))
changes = st.tuples(st.just("change"), prices, proration, payment)
cards = st.tuples(st.just("card"), st.sampled_from(list(Card)))
steps = st.one_of(
    waits,
    waits,
    waits,
    changes,
    changes,
    cards,
    cards,
    st.tuples(st.just("quantity"), st.integers(0, 3), proration),
    st.tuples(st.just("anchor"), proration),
    st.tuples(st.just("cancel"), st.booleans(), st.booleans(), seldom),
    st.tuples(st.just("end"), st.booleans()),
    st.tuples(st.just("collect"), st.sampled_from(["void", "mark_uncollectible", "keep_as_draft", ""])),
    st.tuples(st.just("pause"), st.sampled_from(["now", "none"]), st.booleans()),
    st.tuples(st.just("resume"), st.sampled_from(["now", "unchanged"])),
    st.tuples(st.just("schedule"), prices),
    st.tuples(st.just("release")),
    st.tuples(st.just("again"), prices),
    st.tuples(st.just("fix")),
    st.tuples(st.just("pay")),
    st.tuples(st.just("void")),
    st.tuples(st.just("delete"), seldom),
    st.tuples(st.just("portal"), st.booleans()),
)


class Customer:
    """One customer's doings; what Stripe refuses, is refused."""

    def __init__(self, end: End) -> None:
        more = [*PRICES, _CHEAP]
        self.stripe = SimulatedStripe(KEY, more, dunning=Dunning((1, 3, 5), end))
        self.account = self.stripe.account
        self.customer = self.account.customers.make({"email": "ada@example.com"}, {})["id"]
        self.account.cards.enter(self.account.customers.living(self.customer))
        self.ask("POST", "/v1/subscriptions", {"customer": self.customer, "items": [{"price": STARTER}]})

    def ask(self, method: str, path: str, wish: Wishes | None = None) -> None:
        route, parts = find(method, path)
        with suppress(Wrong):
            route(self.account, Wish(wish or {}), *parts)

    @property
    def subscription(self) -> dict[str, Any]:
        return self.stripe.of("subscription")[-1]

    def change(self, **wish: Any) -> None:
        self.ask("POST", f"/v1/subscriptions/{self.subscription['id']}", wish)

    def do(self, step: tuple[Any, ...]) -> None:
        item = self.subscription["items"]["data"][0]["id"]
        path = f"/v1/subscriptions/{self.subscription['id']}"
        match step:
            case "change", price, behavior, paid:
                items = [{"id": item, "price": price}]
                self.change(items=items, proration_behavior=behavior, payment_behavior=paid)
            case "quantity", quantity, behavior:
                self.change(items=[{"id": item, "quantity": str(quantity)}], proration_behavior=behavior)
            case "anchor", behavior:
                self.change(billing_cycle_anchor={"type": "now"}, proration_behavior=behavior)
            case "cancel", prorate, invoice, 0:
                self.ask("DELETE", path, {"prorate": _word(prorate), "invoice_now": _word(invoice)})
            case "end", wanted:
                self.change(cancel_at_period_end=_word(wanted))
            case "collect", "":
                self.change(pause_collection="")
            case "collect", behavior:
                self.change(pause_collection={"behavior": behavior})
            case "pause", credit, invoice:
                wish: Wishes = {"bill_for": {"unused_time_from": {"type": credit}}}
                self.ask("POST", f"{path}/pause", wish | ({"invoicing_behavior": "invoice"} if invoice else {}))
            case "resume", anchor:
                self.ask("POST", f"{path}/resume", {"billing_cycle_anchor": {"type": anchor}})
            case "schedule", price:
                self.ask("POST", "/v1/subscription_schedules", {"from_subscription": self.subscription["id"]})
                self.downgrade(price)
            case ("release",):
                self.ask("POST", f"/v1/subscription_schedules/{self.subscription['schedule']}/release")
            case "again", price:
                wish = {"customer": self.customer, "items": [{"price": price}]}
                self.ask("POST", "/v1/subscriptions", wish)
            case _:
                self.happen(step)

    def downgrade(self, price: str) -> None:
        schedule = next(iter(self.stripe.of("subscription_schedule", id=self.subscription["schedule"])), None)
        if schedule is None or schedule["current_phase"] is None:
            return
        phase = schedule["phases"][0]
        items = [{"price": one["price"], "quantity": str(one["quantity"])} for one in phase["items"]]
        first = {"items": items, "start_date": str(phase["start_date"]), "end_date": str(phase["end_date"])}
        wish = {"phases": [first, {"items": [{"price": price}]}]}
        self.ask("POST", f"/v1/subscription_schedules/{schedule['id']}", wish)

    def happen(self, step: tuple[Any, ...]) -> None:
        invoices = [one["id"] for one in self.stripe.of("invoice") if one["status"] in ("open", "draft")]
        gone = "deleted" in self.stripe.of("customer")[0]
        match step:
            case "wait", days:
                self.stripe.advance(days * DAY)
            case "delete", 0:
                self.ask("DELETE", f"/v1/customers/{self.customer}")
            case ("pay",):
                self.ask("POST", f"/v1/invoices/{invoices[0] if invoices else 'in_none'}/pay")
            case ("void",):
                self.ask("POST", f"/v1/invoices/{invoices[-1] if invoices else 'in_none'}/void")
            case "portal", wanted:
                (self.stripe.cancel if wanted else self.stripe.resume)(self.subscription["id"])
            case "card", card if not gone:
                self.stripe.set_card(self.customer, card)
            case "fix", *_ if not gone:
                self.stripe.fix_card(self.customer)


_CHEAP = type(PRICES[0])("price_cheap", 30, lookup="cheap")


def _word(value: bool) -> str:
    return "true" if value else "false"


def the_money_adds_up(stripe: SimulatedStripe) -> None:
    balance = stripe.of("customer")[0].get("balance")
    invoices = [one for one in stripe.of("invoice") if one["status"] not in ("draft", "void")]
    for one in invoices:
        assert one["total"] == sum(line["amount"] for line in one["lines"]["data"])
        assert one["amount_due"] >= 0
        paid = one["amount_due"] if one["status"] == "paid" else 0
        assert (one["amount_paid"], one["amount_remaining"]) == (paid, one["amount_due"] - paid)
    if balance is not None:
        assert sum(one["amount_due"] for one in invoices) == sum(one["total"] for one in invoices) - balance
    charged = sum(charge["amount"] for charge in stripe.of("charge"))
    assert charged == sum(one["amount_paid"] for one in invoices)


def everything_was_told(stripe: SimulatedStripe) -> None:
    """The last that was told of an object is what it is; and what an event says was there before, was."""
    last: dict[str, dict[str, Any]] = {}
    for event in stripe.events:
        document, before = event["data"]["object"], event["data"].get("previous_attributes")
        known = last.get(document["id"])
        if before is not None and known is not None:
            assert before == difference(known, document), event["type"]
        last[document["id"]] = document
    for kind in ("customer", "subscription", "invoice", "subscription_schedule"):
        for document in stripe.of(kind):
            if not document.get("deleted"):
                assert last[document["id"]] == document


def what_is_active_is_paid(stripe: SimulatedStripe) -> None:
    for owner in stripe.of("subscription"):
        invoices = [
            one
            for one in stripe.of("invoice")
            if one["parent"]["subscription_details"]["subscription"] == owner["id"]
            and one["status"] in ("open", "paid")
            and one["auto_advance"] in (True, one["status"] == "open")
        ]
        waiting = owner["pending_update"] is not None
        if owner["status"] == "active" and invoices and not waiting and owner["pause_collection"] is None:
            assert invoices[-1]["status"] == "paid"
        if owner["status"] in ENDED:
            assert owner["ended_at"] is not None
            assert owner["schedule"] is None


@settings(max_examples=250)
@given(st.lists(steps, max_size=12), st.sampled_from(list(End)))
def test_histories(history: list[tuple[Any, ...]], end: End) -> None:
    ada = Customer(end)
    for step in history:
        ada.do(step)
        the_money_adds_up(ada.stripe)
        what_is_active_is_paid(ada.stripe)
    everything_was_told(ada.stripe)
    kept = json.loads(json.dumps(ada.account.export()))
    other = SimulatedStripe(KEY)
    other.account.load(kept)
    assert other.account.export() == kept
    assert other.account.alarms.next() == ada.account.alarms.next()
