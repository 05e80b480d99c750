"""Forms as Stripe takes them; and that no form whatever ends the simulator."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stripe._encode import _api_encode

from tests.simulators.stripe.conftest import PRICES
from zlh.simulators.stripe import KEY, SimulatedStripe, Wrong
from zlh.simulators.stripe.form import Wish, decode
from zlh.simulators.stripe.routes import TABLE, find


def test_nested_objects_and_lists() -> None:
    text = "items[0][price]=p&items[1][id]=si&items[1][deleted]=true&metadata[a]=&expand[]=x&expand[]=y&limit=3"
    assert decode(text) == {
        "items": [{"price": "p"}, {"id": "si", "deleted": "true"}],
        "metadata": {"a": ""},
        "expand": ["x", "y"],
        "limit": "3",
    }


def test_indexes_count_not_their_order() -> None:
    assert decode("a[10]=c&a[2]=b&a[0]=a") == {"a": ["a", "b", "c"]}


@pytest.mark.parametrize("text", ["a=1&a[b]=2", "a[b]=1&a[b][c]=2"])
def test_a_value_and_an_object_under_one_name_are_refused(text: str) -> None:
    with pytest.raises(Wrong, match="Invalid object"):
        decode(text)


names = st.text("abc_", min_size=1, max_size=4)
values = st.recursive(
    st.text(min_size=1, max_size=5),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(names, inner, min_size=1, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(names, values, max_size=4))
def test_what_the_library_writes_is_read_as_it_was(wish: dict[str, Any]) -> None:
    assert decode(urlencode(list(_api_encode(wish)))) == wish


WORDS = [
    *("customer", "items", "price", "id", "quantity", "metadata", "cancel_at", "cancel_at_period_end", "limit"),
    *("subscription", "subscription_details", "proration_date", "proration_behavior", "payment_behavior", "phases"),
    *("start_date", "end_date", "from_subscription", "line_items", "mode", "success_url", "frozen_time", "expand"),
    *("pause_collection", "behavior", "resumes_at", "billing_cycle_anchor", "type", "created", "gte", "test_clock"),
    *("starting_after", "status", "deleted", "return_url", "expires_at", "duration", "interval", "interval_count"),
]
THINGS = [
    *("", "0", "1", "-1", "9999999999", "99999999999999999999", "true", "false", "now", "x", "\x00", "\ud7ff"),
    *("price_starter", "price_pro", "price_yearly", "subscription", "month", "void", "all", "always_invoice", "none"),
    *("https://x.example", "error_if_incomplete", "pending_if_incomplete", "customer", "latest_invoice", "data.x"),
    *("{customer}", "{subscription}", "{item}", "{invoice}", "{session}", "{schedule}", "{clock}", "{now}", "{end}"),
]
leaves = st.sampled_from(THINGS)
forms = st.dictionaries(
    st.sampled_from(WORDS),
    st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=5,
)
requests = st.lists(
    st.tuples(st.sampled_from(TABLE), leaves, forms, st.sampled_from([0, 60, 86400, 40 * 86400])), max_size=6
)


def filled(value: Any, known: dict[str, str]) -> Any:
    if isinstance(value, str):
        return known.get(value.strip("{}"), value) if value.startswith("{") else value
    if isinstance(value, list):
        return [filled(one, known) for one in value]
    return {name: filled(one, known) for name, one in value.items()}


@settings(max_examples=150)
@given(requests)
def test_whatever_is_asked_is_answered_or_refused(asked: list[Any]) -> None:
    """And afterwards time still passes."""
    stripe = SimulatedStripe(KEY, PRICES)
    account = stripe.account
    customer = account.customers.make({"email": "ada@example.com"}, {})
    account.cards.enter(customer)
    subscription = account.subscriptions.make(customer, [(account.prices.retrieve("price_starter"), 1)], {})
    known = {
        "customer": customer["id"],
        "subscription": subscription["id"],
        "item": subscription["items"]["data"][0]["id"],
        "invoice": subscription["latest_invoice"],
        "session": account.sessions.create(_session(customer))["id"],
        "schedule": account.schedules.create(Wish({"from_subscription": subscription["id"]}))["id"],
        "clock": account.clocks.create(Wish({"frozen_time": "1800000000"}))["id"],
        "now": str(stripe.now()),
        "end": str(subscription["items"]["data"][0]["current_period_end"]),
    }
    for (method, path, _), thing, wish, seconds in asked:
        target = path.replace("{}", _part(path, thing, known))
        route, parts = find(method, target)
        with suppress(Wrong):
            route(account, Wish(filled(wish, known)), *parts)
        account.clocks.finish()
        stripe.advance(seconds)
    stripe.advance(100 * 86400)


def _part(path: str, thing: str, known: dict[str, str]) -> str:
    """Mostly something that there is, where the address names it."""
    kind = path.split("/{}")[0].rstrip("s").rsplit("/", 1)[-1]
    kind = {"subscription_schedule": "schedule", "test_clock": "clock"}.get(kind, kind)
    name = known.get(kind, known.get(thing.strip("{}"), thing))
    return name.replace("/", "") or "x"


def _session(customer: dict[str, Any]) -> Wish:
    return Wish(
        {
            "mode": "subscription",
            "customer": customer["id"],
            "line_items": [{"price": "price_pro", "quantity": "1"}],
            "success_url": "https://x.example/",
        }
    )
