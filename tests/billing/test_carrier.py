from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from tests.billing.deaths import Deaths, Died
from tests.billing.till import Till
from zlh.billing.carrier import AGAIN, PATIENCE, Carrier
from zlh.drivers.errors import Conflict, Refused
from zlh.model.accounts import Account
from zlh.model.billing import Subscription
from zlh.model.billing_orders import Order, OrderKind, OrderState
from zlh.model.errors import ConflictError, UnavailableError
from zlh.simulators.stripe import Card, FaultName
from zlh.store import billing_orders

SECONDS_OF_A_LEASE = 301


def carrier(till: Till) -> Carrier:
    assert till.billing.carrier is not None
    return till.billing.carrier


async def the_order(till: Till, account: Account, kind: OrderKind) -> Order:
    """The last one of that kind."""
    query = sa.text(
        "SELECT id FROM billing_orders WHERE account_id = :account AND kind = :kind ORDER BY id DESC LIMIT 1"
    )
    found = await till.database.run(
        lambda connection: connection.execute(query, {"account": account.id, "kind": kind.value}).scalar_one()
    )
    order = await till.database.run(billing_orders.get, found)
    assert order is not None
    return order


async def subscription(till: Till, account: Account) -> Subscription:
    (one,) = await till.subscriptions(account)
    return one


@contextmanager
def once_recorded(till: Till, fault: FaultName) -> Iterator[None]:
    """What is wrong with Stripe from the moment that an order is written down."""
    carry_out = carrier(till).carry_out

    async def in_vain(order: Order) -> Order:
        till.stripe.cause(fault)
        return await carry_out(order)

    carrier(till).carry_out = in_vain  # type: ignore[method-assign]
    try:
        yield
    finally:
        carrier(till).carry_out = carry_out  # type: ignore[method-assign]


async def die_everywhere(
    till: Till, act: Callable[[int], Awaitable[Any]], check: Callable[[int], Awaitable[None]], *, turns: int = 1
) -> int:
    """Dies before each step of `act` once, is carried on with after the lease, and is then looked at by `check`; both
    are told how many times it was done. `turns` are the different things that `act` does by turns, all of which die
    everywhere. Returns how many steps there are."""
    deaths, survived = Deaths(till), 0
    for number in range(80):
        deaths.arm(number // turns + 1)
        try:
            await act(number)
        except Died:
            survived = 0
        else:
            survived += 1
        deaths.disarm()
        till.stripe.advance(SECONDS_OF_A_LEASE)
        await carrier(till).round()
        await check(number)
        if survived == turns:
            return number // turns
    raise AssertionError("it never comes to an end")


async def test_whoever_dies_while_somebody_subscribes_leaves_one_page_and_one_customer(till: Till) -> None:
    people: dict[int, Account] = {}

    async def act(number: int) -> None:
        await till.desk.subscribe(people[number], "starter")

    async def check(number: int) -> None:
        ada = people[number]
        assert await till.database.run(billing_orders.open_of, ada.id) is None
        # They ask again.
        page = await till.open_page(ada, "starter")
        mine = [one for one in till.stripe.of("customer") if one["email"] == ada.email]
        assert len(mine) == 1
        assert [one["id"] for one in till.stripe.of("checkout.session", customer=mine[0]["id"], status="open")] == [
            page
        ]

    for number in range(40):
        people[number] = await till.account(f"ada{number}")
    assert await die_everywhere(till, act, check) >= 8


async def test_whoever_dies_while_a_plan_is_changed_changes_and_charges_once(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    plans = ("standard", "starter")
    paid = [1]

    async def act(number: int) -> None:
        ready = await till.desk.forecast(ada, plans[number % 2])
        await till.desk.switch(ada, plans[number % 2], at=ready.preview.at, due_now=ready.preview.due_now)

    async def check(number: int) -> None:
        plan = plans[number % 2]
        try:
            await act(number)
        except ConflictError as conflict:
            code = conflict.code
        else:
            code = "changed now"
        # What was recorded was carried on; who died before that has to ask again.
        assert code in ("same_plan", "changed now")
        assert (await till.again(ada)).plan == plan
        assert await till.database.run(billing_orders.open_of, ada.id) is None
        paid.append(len(till.stripe.of("invoice")))
        assert paid[-1] == paid[-2] + 1

    assert await die_everywhere(till, act, check, turns=2) >= 10
    assert len(till.stripe.of("subscription")) == 1


async def test_whoever_dies_while_a_change_is_chosen_for_later_or_taken_back_leaves_nothing_half(till: Till) -> None:
    ada = await till.buy(await till.account("ada"), "studio")

    async def act(number: int) -> None:
        if number % 2 == 0:
            await till.desk.switch_later(ada, "starter")
        else:
            await till.desk.resume(ada)

    async def check(number: int) -> None:
        wanted = None if number % 2 else "price_starter"
        await till.deliver()
        if (await subscription(till, ada)).next_price_id != wanted:
            await act(number)
        assert (await subscription(till, ada)).next_price_id == wanted
        assert await till.database.run(billing_orders.open_of, ada.id) is None

    assert await die_everywhere(till, act, check, turns=2) >= 8
    assert len(till.stripe.of("invoice")) == 1


async def test_whoever_dies_while_an_end_is_chosen_or_taken_back_leaves_nothing_half(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))

    async def act(number: int) -> None:
        if number % 2 == 0:
            await till.desk.cancel(ada)
        else:
            await till.desk.resume(ada)

    async def check(number: int) -> None:
        ends = number % 2 == 0
        await till.deliver()
        if ((await subscription(till, ada)).cancel_at is not None) != ends:
            await act(number)
        assert ((await subscription(till, ada)).cancel_at is not None) == ends
        assert await till.database.run(billing_orders.open_of, ada.id) is None

    assert await die_everywhere(till, act, check, turns=2) >= 8


async def test_an_answer_that_was_lost_is_asked_for_again_and_nothing_is_done_twice(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    ready = await till.desk.forecast(ada, "studio")
    with once_recorded(till, FaultName.LOST_ANSWER), pytest.raises(UnavailableError):
        await till.desk.switch(ada, "studio", at=ready.preview.at, due_now=ready.preview.due_now)
    till.stripe.calm()
    till.stripe.advance(SECONDS_OF_A_LEASE)
    assert await carrier(till).round() == 1
    assert (await the_order(till, ada, OrderKind.SWITCH)).state is OrderState.DONE
    assert (await till.again(ada)).plan == "studio"
    assert len(till.stripe.of("invoice")) == 2


async def test_who_carries_out_an_order_has_it_until_the_lease_ends(till: Till) -> None:
    ada = await till.account("ada")
    till.stripe.cause(FaultName.REFUSING)
    with pytest.raises(UnavailableError):
        await till.desk.subscribe(ada, "starter")
    assert await carrier(till).round() == 0
    till.stripe.advance(SECONDS_OF_A_LEASE)
    # Stripe is still away: it waits a little.
    assert await carrier(till).round() == 1
    assert await carrier(till).round() == 0
    waiting = await the_order(till, ada, OrderKind.SUBSCRIBE)
    assert (waiting.state, waiting.error) == (OrderState.OPEN, "Stripe does not accept our key")
    till.stripe.calm()
    till.stripe.advance(AGAIN.total_seconds() + 1)
    assert await carrier(till).round() == 1
    assert (await the_order(till, ada, OrderKind.SUBSCRIBE)).state is OrderState.DONE


@pytest.mark.parametrize("kind", [OrderKind.SUBSCRIBE, OrderKind.SWITCH, OrderKind.SWITCH_LATER])
async def test_what_stripe_did_not_hear_of_for_too_long_is_given_up(till: Till, kind: OrderKind) -> None:
    ada = await till.account("ada")
    if kind is not OrderKind.SUBSCRIBE:
        ada = await till.buy(ada)
        ready = await till.desk.forecast(ada, "studio")
    orders = {
        OrderKind.SUBSCRIBE: lambda: till.desk.subscribe(ada, "starter"),
        OrderKind.SWITCH: lambda: till.desk.switch(ada, "studio", at=ready.preview.at, due_now=ready.preview.due_now),
        OrderKind.SWITCH_LATER: lambda: till.desk.switch_later(ada, "studio"),
    }
    with once_recorded(till, FaultName.REFUSING), pytest.raises(UnavailableError):
        await orders[kind]()
    till.stripe.advance(PATIENCE.total_seconds() + 1)
    till.stripe.calm()
    await carrier(till).round()
    order = await the_order(till, ada, kind)
    assert (order.state, order.error) == (OrderState.REFUSED, "Stripe was away for too long, and nothing was changed")
    assert till.stripe.of("checkout.session", status="open") == []
    assert len(till.stripe.of("invoice")) == (0 if kind is OrderKind.SUBSCRIBE else 1)
    # And they may order again.
    if kind is OrderKind.SUBSCRIBE:
        await till.desk.subscribe(ada, "starter")
    else:
        await till.desk.switch_later(ada, "studio")


async def test_an_end_is_carried_out_however_late(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    order = await till.database.run(
        billing_orders.begin,
        ada.id,
        OrderKind.CANCEL,
        {"subscription": (await subscription(till, ada)).id},
        till.now(),
        lease=timedelta(0),
    )
    till.stripe.advance(2 * PATIENCE.total_seconds())
    await carrier(till).round()
    done = await till.database.run(billing_orders.get, order.id)
    assert done is not None
    assert done.state is OrderState.DONE
    assert (await subscription(till, ada)).cancel_at is not None


async def test_an_order_about_a_subscription_that_is_over_is_over(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    one = await subscription(till, ada)
    order = await till.database.run(
        billing_orders.begin, ada.id, OrderKind.CANCEL, {"subscription": one.id}, till.now(), lease=timedelta(0)
    )
    book = till.stripe.account.subscriptions
    book.end(book.retrieve(one.id), "cancellation_requested")
    with pytest.raises(Conflict):
        await carrier(till).carry_out(order)
    assert (await the_order(till, ada, OrderKind.CANCEL)).state is OrderState.REFUSED


async def test_who_is_slower_does_not_contradict_who_finished_the_order(till: Till) -> None:
    ada = await till.account("ada")
    begun = await till.database.run(
        billing_orders.begin,
        ada.id,
        OrderKind.SUBSCRIBE,
        {"plan": "starter", "price": "price_starter"},
        till.now(),
        lease=timedelta(0),
    )
    done = await carrier(till).carry_out(begun)
    assert done.result["url"]
    # The slower one finds that it is too late.
    till.stripe.advance(PATIENCE.total_seconds() + 1)
    assert await carrier(till).carry_out(begun) == done
    assert await the_order(till, ada, OrderKind.SUBSCRIBE) == done


async def test_a_declined_card_ends_the_order(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    one = await subscription(till, ada)
    till.stripe.set_card(one.customer_id, Card.DECLINED)
    wish = {"plan": "studio", "price": "price_studio", "subscription": one.id, "from": one.price_id}
    order = await till.database.run(
        billing_orders.begin,
        ada.id,
        OrderKind.SWITCH,
        wish | {"at": int(till.now().timestamp())},
        till.now(),
        lease=timedelta(0),
    )
    with pytest.raises(Refused):
        await carrier(till).carry_out(order)
    ended = await the_order(till, ada, OrderKind.SWITCH)
    assert (ended.state, ended.error) == (OrderState.REFUSED, "the payment failed: card_declined")
    assert await carrier(till).round() == 0
