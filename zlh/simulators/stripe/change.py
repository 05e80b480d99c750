"""What a change of a subscription's items means: which items there are then, for which period, and what is billed. It
decides alone, so that a preview and the change itself cannot differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from zlh.simulators.stripe import names, periods
from zlh.simulators.stripe.errors import Document, invalid
from zlh.simulators.stripe.form import Wish
from zlh.simulators.stripe.proration import Debit, Portion, Proration, changed, charges_of, credits_of

BEHAVIORS = ("create_prorations", "always_invoice", "none")


@dataclass(frozen=True)
class Plan:
    """`debits` are those that stay in force. `renewed`: a new period begins at once, and is billed whole."""

    portions: list[Portion]
    prices: Mapping[str, Document]
    start: int
    end: int
    anchor: int
    debits: list[Debit]
    prorations: list[Proration]
    renewed: bool
    at: int

    @property
    def idle(self) -> bool:
        return not self.prorations and not self.renewed


def portions_of(items: Sequence[Document]) -> list[Portion]:
    return [
        Portion(item["id"], item["price"]["id"], item["quantity"], item["price"]["unit_amount"]) for item in items
    ]


def wanted(items: Sequence[Document], wishes: Sequence[Wish], prices: Mapping[str, Document]) -> list[Portion]:
    """The items as they are to be. One without an `id` is added to those that are there. Raises Wrong(400)."""
    there = {portion.item: portion for portion in portions_of(items)}
    for wish in wishes:
        name, price, quantity = wish.text("id"), wish.text("price"), wish.integer("quantity")
        deleted = wish.boolean("deleted")
        wish.ignore("clear_usage", "metadata")
        if name is not None and name not in there:
            raise invalid(wish.param("id"), f"No such subscription item: '{name}'", "resource_missing")
        if price is not None and price not in prices:
            raise invalid(wish.param("price"), f"No such price: '{price}'", "resource_missing")
        if quantity is not None and quantity < 0:
            raise invalid(wish.param("quantity"), "This value must be greater than or equal to 0.")
        if deleted and name is not None:
            del there[name]
            continue
        if name is None and price is None:
            raise invalid(wish.param("price"), f"Missing required param: {wish.param('price')}.", "parameter_missing")
        if name is None:
            name = names.make("subscription_item")
            there[name] = Portion(name, str(price), 1 if quantity is None else quantity, 0)
        old = there[name]
        there[name] = replace(old, price=price or old.price, quantity=old.quantity if quantity is None else quantity)
    used = [portion.price for portion in there.values()]
    for price in used:
        if used.count(price) > 1:
            raise invalid("items", f"Cannot add multiple subscription items with the same plan: {price}")
    if not there:
        raise invalid("items", "A subscription must have at least one active plan.")
    return [replace(one, unit_amount=prices[one.price]["unit_amount"]) for one in there.values()]


def plan(
    subscription: Document,
    debits: Sequence[Debit],
    portions: Sequence[Portion],
    prices: Mapping[str, Document],
    *,
    at: int,
    behavior: str,
    anchored_now: bool = False,
) -> Plan:
    """`at` is when the change counts; within the current period."""
    items = subscription["items"]["data"]
    start, end = items[0]["current_period_start"], items[0]["current_period_end"]
    interval, every = _interval(items[0]["price"])
    new_interval, new_every = _interval(prices[portions[0].price])
    prorated = behavior != "none"
    if anchored_now or (new_interval, new_every) != (interval, every):
        # A new period begins: what was paid for the old one is given back, the new one is billed whole.
        given = credits_of(debits, at) if prorated else []
        until = periods.later(at, new_interval, new_every)
        return Plan(list(portions), prices, at, until, at, [], given, True, at)
    names_, fresh = changed(portions_of(items), portions)
    gone = [debit for debit in debits if debit.item in names_]
    stay = [debit for debit in debits if debit.item not in names_]
    if not prorated or not names_:
        anchor = subscription["billing_cycle_anchor"]
        return Plan(list(portions), prices, start, end, anchor, list(debits), [], False, at)
    prorations = credits_of(gone, at) + charges_of(fresh, at, start, end)
    return Plan(list(portions), prices, start, end, subscription["billing_cycle_anchor"], stay, prorations, False, at)


def _interval(price: Document) -> tuple[str, int]:
    return price["recurring"]["interval"], price["recurring"]["interval_count"]
