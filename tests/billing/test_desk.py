from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trio

from tests.billing.till import Till
from zlh.model.accounts import Account
from zlh.model.billing_orders import OrderKind, OrderState
from zlh.model.errors import ConflictError, InvalidError, PaymentRequiredError, UnavailableError
from zlh.simulators.stripe import Card, FaultName
from zlh.store import accounts, billing_orders


async def a_subscriber(till: Till, plan: str = "starter", name: str = "ada") -> Account:
    return await till.buy(await till.account(name), plan)


async def switch(till: Till, account: Account, plan: str) -> Any:
    """As somebody does who looked at what it costs."""
    forecast = await till.desk.forecast(account, plan)
    return await till.desk.switch(account, plan, at=forecast.preview.at, due_now=forecast.preview.due_now)


async def refusal(call: Any) -> str:
    """The code of the conflict that comes of it."""
    with pytest.raises(ConflictError) as conflict:
        await call
    return conflict.value.code


def open_pages(till: Till) -> list[str]:
    return [one["id"] for one in till.stripe.of("checkout.session", status="open")]


# Subscribe


async def test_a_page_gives_nothing_until_it_is_paid(till: Till) -> None:
    ada = await till.account("ada")
    page = await till.open_page(ada, "starter")
    await till.deliver()
    assert (await till.again(ada)).plan is None
    till.stripe.decline(page)
    await till.deliver()
    assert (await till.again(ada)).plan is None
    till.stripe.pay(page)
    await till.deliver()
    assert (await till.again(ada)).plan == "starter"


async def test_a_page_says_whose_it_is(till: Till) -> None:
    ada = await till.account("ada")
    await till.open_page(ada, "starter")
    (page,) = till.stripe.of("checkout.session")
    (customer,) = till.stripe.of("customer")
    assert page["client_reference_id"] == str(ada.id)
    assert page["metadata"] == customer["metadata"] == {"zlh_account": str(ada.id), "zlh_installation": "zlh"}
    assert (page["mode"], page["customer"], customer["email"]) == ("subscription", customer["id"], "ada@example.com")


async def test_no_plan_named_is_the_cheapest(till: Till) -> None:
    ada = await till.account("ada")
    await till.desk.subscribe(ada, None)
    (page,) = till.stripe.of("checkout.session")
    assert page["amount_total"] == 900


@pytest.mark.parametrize("plan", ["unlimited", "gold", "", "price_starter"])
async def test_a_plan_that_is_not_for_sale_is_nobodys(till: Till, plan: str) -> None:
    ada = await till.account("ada")
    for call in (till.desk.subscribe(ada, plan), till.desk.forecast(ada, plan), till.desk.switch_later(ada, plan)):
        with pytest.raises(InvalidError) as invalid:
            await call
        assert invalid.value.code == "unknown_plan"
    assert not till.stripe.calls


async def test_two_tabs_for_the_same_plan_have_the_same_page(till: Till) -> None:
    ada = await till.account("ada")
    assert await till.desk.subscribe(ada, "starter") == await till.desk.subscribe(ada, "starter")
    assert len(open_pages(till)) == 1


async def test_another_plan_in_another_tab_closes_the_first_page(till: Till) -> None:
    ada = await till.account("ada")
    first, second = await till.open_page(ada, "starter"), await till.open_page(ada, "studio")
    assert open_pages(till) == [second] != [first]


@pytest.mark.parametrize("plans", [("starter", "starter"), ("starter", "studio")])
async def test_of_tabs_at_the_same_moment_one_page_stays_open(till: Till, plans: tuple[str, str]) -> None:
    ada = await till.account("ada")
    till.stripe.cause(FaultName.SLOW, seconds=0.05)
    urls: list[str] = []
    codes: list[str] = []

    async def click(plan: str) -> None:
        try:
            urls.append(await till.desk.subscribe(ada, plan))
        except ConflictError as conflict:
            codes.append(conflict.code)

    async with trio.open_nursery() as nursery:
        for plan in plans * 2:
            nursery.start_soon(click, plan)
    assert urls
    assert set(codes) <= {"order_in_progress", "processing"}
    assert len(open_pages(till)) == 1
    assert len(till.stripe.of("customer")) == 1


async def test_a_page_that_is_opened_while_another_asks_is_seen(till: Till) -> None:
    """Between its look at the page of before, and its order."""
    ada = await till.account("ada")
    plain, others = till.desk._page_of_before, []

    async def slowly(*arguments: Any) -> str | None:
        found = await plain(*arguments)
        if not others:
            others.append(None)
            others.append(await till.desk.subscribe(ada, "studio"))
        return found

    till.desk._page_of_before = slowly  # type: ignore[method-assign]
    await till.desk.subscribe(ada, "starter")
    (page,) = till.stripe.of("checkout.session", status="open")
    assert page["amount_total"] == 900


async def test_who_is_subscribed_is_told_to_change_the_plan(till: Till) -> None:
    ada = await a_subscriber(till)
    with pytest.raises(ConflictError) as conflict:
        await till.desk.subscribe(ada, "studio")
    assert conflict.value.code == "subscribed"
    assert conflict.value.details == {"plan": "starter", "status": "active"}
    assert open_pages(till) == []


async def test_who_paid_and_is_not_known_to_have_is_subscribed_all_the_same(till: Till) -> None:
    """The webhook is not here yet."""
    ada = await till.account("ada")
    till.stripe.pay(await till.open_page(ada, "starter"))
    till.lose()
    assert await refusal(till.desk.subscribe(ada, "starter")) == "subscribed"
    assert (await till.again(ada)).plan == "starter"


async def test_who_owes_does_not_subscribe_again(till: Till) -> None:
    ada = await a_subscriber(till)
    (one,) = await till.subscriptions(ada)
    till.stripe.set_card(one.customer_id, Card.DECLINED)
    await till.pass_time(days=33)
    assert await refusal(till.desk.subscribe(ada, "starter")) == "subscribed"


async def test_who_ended_it_at_once_may_begin_again_at_once(till: Till) -> None:
    ada = await a_subscriber(till)
    (one,) = await till.subscriptions(ada)
    till.stripe.account.subscriptions.end(
        till.stripe.account.subscriptions.retrieve(one.id), "cancellation_requested"
    )
    ada = await till.buy(ada, "standard")
    assert ada.plan == "standard"


async def test_a_page_that_is_over_is_followed_by_another(till: Till) -> None:
    ada = await till.account("ada")
    first = await till.open_page(ada, "starter")
    till.stripe.advance(2 * 3600)
    assert open_pages(till) == []
    assert await till.open_page(ada, "starter") != first


async def test_a_page_that_is_paid_in_the_moment_that_it_is_closed_is_not_followed_by_another(till: Till) -> None:
    ada = await till.account("ada")
    page = await till.open_page(ada, "starter")
    plain = till.driver.close_checkout

    async def pay_first(session_id: str) -> None:
        till.stripe.pay(page)
        await plain(session_id)

    till.driver.close_checkout = pay_first  # type: ignore[method-assign]
    assert await refusal(till.desk.subscribe(ada, "studio")) == "processing"
    assert await refusal(till.desk.subscribe(ada, "studio")) == "subscribed"
    assert len(till.stripe.of("subscription")) == 1


async def test_a_customer_pays_in_one_currency(till: Till) -> None:
    ada = await a_subscriber(till)
    (one,) = await till.subscriptions(ada)
    book = till.stripe.account
    book.subscriptions.end(book.subscriptions.retrieve(one.id), "cancellation_requested")
    customer = book.customers.retrieve(one.customer_id)
    book.subscriptions.make(customer, [(book.prices.retrieve("price_dollars"), 1)], {}, None)
    for call in (till.desk.forecast(ada, "standard"), till.desk.switch_later(ada, "standard")):
        assert await refusal(call) == "currency_mismatch"


# Change


async def test_an_upgrade_costs_what_was_said_and_is_there_at_once(till: Till) -> None:
    ada = await a_subscriber(till)
    till.stripe.advance(10 * 86400)
    forecast = await till.desk.forecast(ada, "studio")
    assert (forecast.plan.name, forecast.present and forecast.present.name) == ("studio", "starter")
    assert forecast.preview.due_now > 0
    order = await till.desk.switch(ada, "studio", at=forecast.preview.at, due_now=forecast.preview.due_now)
    assert order.state is OrderState.DONE
    assert (await till.again(ada)).plan == "studio"
    assert till.stripe.of("invoice")[-1]["amount_paid"] == forecast.preview.due_now


async def test_a_price_that_is_no_plans_can_be_left_for_a_plan(till: Till) -> None:
    ada = await till.account("ada")
    page = await till.open_page(ada, "starter")
    till.stripe.account.book.secret(page)["items"] = [("price_of_old", 1)]
    till.stripe.pay(page)
    await till.deliver()
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status, ada.suspended_at) == (None, "active", None)
    await switch(till, ada, "standard")
    assert (await till.again(ada)).plan == "standard"


async def test_without_a_look_at_what_it_costs_nothing_is_changed(till: Till) -> None:
    ada = await a_subscriber(till)
    now = till.now().replace(microsecond=0)
    for at, due_now in ((None, None), (now, None), (None, 100), (now - timedelta(minutes=11), 100)):
        assert await refusal(till.desk.switch(ada, "studio", at=at, due_now=due_now)) == "preview_needed"
    assert (await till.again(ada)).plan == "starter"


async def test_who_saw_another_price_is_asked_again(till: Till) -> None:
    ada = await a_subscriber(till)
    forecast = await till.desk.forecast(ada, "studio")
    changed = till.desk.switch(ada, "studio", at=forecast.preview.at, due_now=forecast.preview.due_now - 1)
    assert await refusal(changed) == "preview_changed"
    assert (await till.again(ada)).plan == "starter"


async def test_a_card_that_is_declined_leaves_everything_as_it_is(till: Till) -> None:
    ada = await a_subscriber(till)
    (before,) = await till.subscriptions(ada)
    till.stripe.set_card(before.customer_id, Card.DECLINED)
    with pytest.raises(PaymentRequiredError) as declined:
        await switch(till, ada, "studio")
    assert (declined.value.code, declined.value.details) == ("payment_failed", {"code": "card_declined"})
    await till.deliver()
    (after,) = await till.subscriptions(ada)
    assert (after.price_id, after.status) == (before.price_id, before.status)
    # With another card it is another order.
    till.stripe.fix_card(before.customer_id)
    await switch(till, ada, "studio")
    assert (await till.again(ada)).plan == "studio"


async def test_a_card_that_is_declined_leaves_also_what_was_chosen_for_the_end_of_the_period(till: Till) -> None:
    ada = await a_subscriber(till, "standard")
    await till.desk.switch_later(ada, "starter")
    (before,) = await till.subscriptions(ada)
    till.stripe.set_card(before.customer_id, Card.DECLINED)
    with pytest.raises(PaymentRequiredError):
        await switch(till, ada, "studio")
    await till.deliver()
    (after,) = await till.subscriptions(ada)
    assert (after.price_id, after.next_price_id) == ("price_standard", "price_starter")
    till.stripe.fix_card(before.customer_id)
    await switch(till, ada, "studio")
    (after,) = await till.subscriptions(ada)
    assert (after.price_id, after.next_price_id) == ("price_studio", None)
    await till.pass_time(days=33)
    assert (await till.again(ada)).plan == "studio"


async def test_a_downgrade_below_what_is_in_use_says_what_is_too_much_and_can_wait(till: Till) -> None:
    ada = await a_subscriber(till, "standard")
    for _ in range(2):
        await till.container(ada)
    forecast = await till.desk.forecast(ada, "starter")
    exceeded = [{"limit": "games", "allowed": 1, "wanted": 2, "unit": "game containers"}]
    assert forecast.exceeded == exceeded
    with pytest.raises(ConflictError) as conflict:
        await till.desk.switch(ada, "starter", at=forecast.preview.at, due_now=forecast.preview.due_now)
    assert (conflict.value.code, conflict.value.details) == ("in_use", {"plan": "starter", "exceeded": exceeded})
    await till.desk.switch_later(ada, "starter")
    assert (await till.again(ada)).plan == "standard"
    await till.pass_time(days=33)
    assert (await till.again(ada)).plan == "starter"


async def test_an_exception_for_a_customer_holds_in_another_plan_too(till: Till) -> None:
    ada = await a_subscriber(till, "standard")
    for _ in range(2):
        await till.container(ada)
    ada = await till.billing.grants.give(ada.id, plan=None, until=None, because="early", exceptions={"games": 2})
    assert (await till.desk.forecast(ada, "starter")).exceeded == []
    await switch(till, ada, "starter")
    assert (await till.again(ada)).plan == "starter"


async def test_of_two_tabs_that_change_at_once_one_change_is_made(till: Till) -> None:
    ada = await a_subscriber(till)
    forecasts = [await till.desk.forecast(ada, plan) for plan in ("standard", "studio")]
    till.stripe.cause(FaultName.SLOW, seconds=0.05)
    codes: list[str] = []

    async def click(index: int) -> None:
        one = forecasts[index]
        try:
            await till.desk.switch(ada, one.plan.name, at=one.preview.at, due_now=one.preview.due_now)
        except ConflictError as conflict:
            codes.append(conflict.code)

    async with trio.open_nursery() as nursery:
        for index in (0, 1):
            nursery.start_soon(click, index)
    assert codes in (["order_in_progress"], ["stripe_refused"], ["preview_changed"])
    assert len(till.stripe.of("invoice")) == 2


async def test_the_same_change_in_two_tabs_is_paid_once(till: Till) -> None:
    ada = await a_subscriber(till)
    forecast = await till.desk.forecast(ada, "studio")
    till.stripe.cause(FaultName.SLOW, seconds=0.05)
    orders: list[str] = []

    async def click() -> None:
        order = await till.desk.switch(ada, "studio", at=forecast.preview.at, due_now=forecast.preview.due_now)
        orders.append(order.id)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(click)
    assert len(set(orders)) == 1
    assert len(till.stripe.of("invoice")) == 2


async def test_who_was_slower_does_not_undo_what_was_changed_in_the_other_tab(till: Till) -> None:
    ada = await a_subscriber(till)
    old = await till.desk.forecast(ada, "standard")
    await switch(till, ada, "studio")
    assert await refusal(till.desk.switch(ada, "standard", at=old.preview.at, due_now=old.preview.due_now)) in (
        "preview_changed",
        "in_use",
    )
    assert (await till.again(ada)).plan == "studio"


async def test_what_is_the_plan_already_is_no_change(till: Till) -> None:
    ada = await a_subscriber(till)
    for call in (till.desk.forecast(ada, "starter"), till.desk.switch_later(ada, "starter")):
        assert await refusal(call) == "same_plan"


async def test_who_owes_pays_first(till: Till) -> None:
    ada = await a_subscriber(till)
    (one,) = await till.subscriptions(ada)
    till.stripe.set_card(one.customer_id, Card.DECLINED)
    await till.pass_time(days=33)
    for call in (till.desk.forecast(ada, "studio"), till.desk.switch_later(ada, "studio")):
        assert await refusal(call) == "payment_due"


async def test_who_has_nothing_changes_nothing(till: Till) -> None:
    ada = await till.account("ada")
    calls = (
        till.desk.forecast(ada, "studio"),
        till.desk.switch_later(ada, "studio"),
        till.desk.cancel(ada),
        till.desk.resume(ada),
    )
    for call in calls:
        assert await refusal(call) == "not_subscribed"
    assert await refusal(till.desk.portal(ada)) == "no_customer"


# Let it end, and take that back


async def test_an_end_comes_with_the_period_and_can_be_taken_back_until_then(till: Till) -> None:
    ada = await a_subscriber(till)
    for _ in range(2):
        await till.desk.cancel(ada)
    (one,) = await till.subscriptions(ada)
    assert one.cancel_at == one.period_end
    assert await refusal(till.desk.switch_later(ada, "studio")) == "ending"
    await till.desk.resume(ada)
    assert await refusal(till.desk.resume(ada)) == "nothing_to_resume"
    await till.pass_time(days=33)
    assert (await till.again(ada)).billing_status == "active"
    await till.desk.cancel(ada)
    await till.pass_time(days=33)
    assert (await till.again(ada)).billing_status == "canceled"
    assert await till.letters() == [
        "subscription_begun",
        "cancellation_noted",
        "cancellation_withdrawn",
        "cancellation_noted",
        "subscription_ended",
    ]


async def test_who_lets_it_end_changes_nothing_at_the_end_of_the_period(till: Till) -> None:
    ada = await a_subscriber(till, "studio")
    await till.desk.switch_later(ada, "starter")
    await till.desk.cancel(ada)
    (one,) = await till.subscriptions(ada)
    assert (one.cancel_at, one.next_price_id) == (one.period_end, None)


async def test_a_change_at_the_end_of_the_period_can_be_taken_back(till: Till) -> None:
    ada = await a_subscriber(till, "studio")
    await till.desk.switch_later(ada, "starter")
    await till.desk.resume(ada)
    await till.pass_time(days=33)
    assert (await till.again(ada)).plan == "studio"


async def test_what_was_chosen_on_stripes_own_page_is_seen(till: Till) -> None:
    ada = await a_subscriber(till)
    (one,) = await till.subscriptions(ada)
    assert (await till.desk.portal(ada)).startswith(till.stripe.url)
    till.stripe.cancel(one.id)
    await till.deliver()
    (one,) = await till.subscriptions(ada)
    assert one.cancel_at is not None
    await till.desk.resume(ada)
    (one,) = await till.subscriptions(ada)
    assert one.cancel_at is None


# Stripe is away


async def test_without_stripe_nothing_can_be_ordered_and_nothing_is_lost(till: Till) -> None:
    ada = await a_subscriber(till)
    bob = await till.account("bob")
    till.stripe.cause(FaultName.REFUSING)
    for call in (
        till.desk.subscribe(bob, "starter"),
        till.desk.forecast(ada, "studio"),
        till.desk.cancel(ada),
        till.desk.portal(ada),
    ):
        with pytest.raises(UnavailableError) as away:
            await call
        assert away.value.code == "stripe_unavailable"
        assert away.value.retry_after
    assert (await till.again(ada)).plan == "starter"


async def test_an_order_that_stripe_did_not_answer_goes_on_by_itself_and_can_be_asked_for_again(till: Till) -> None:
    bob = await till.account("bob")
    till.stripe.cause(FaultName.REFUSING)
    with pytest.raises(UnavailableError) as away:
        await till.desk.subscribe(bob, "starter")
    order = await till.database.run(billing_orders.open_of, bob.id)
    assert order is not None
    assert away.value.details == {"order": order.id, "mayTakeEffect": True}
    # Another one waits for it.
    till.stripe.calm()
    assert await refusal(till.desk.subscribe(bob, "studio")) == "order_in_progress"
    await till.desk.subscribe(bob, "starter")
    done = await till.database.run(billing_orders.get, order.id)
    assert done is not None
    assert (done.state, done.kind) == (OrderState.DONE, OrderKind.SUBSCRIBE)


async def test_who_goes_away_while_an_order_is_carried_out_has_ordered(till: Till) -> None:
    ada = await a_subscriber(till)
    with trio.CancelScope() as scope:
        till.stripe.on_call = scope.cancel
        await till.desk.cancel(ada)
    till.stripe.on_call = lambda: None
    # The look before it was in vain, or all of it was done: no order is left half.
    assert await till.database.run(billing_orders.open_of, ada.id) is None


async def test_a_name_and_an_address_that_change_do_not_make_a_second_customer(till: Till) -> None:
    ada = await a_subscriber(till)
    await till.database.run(accounts.set_email, ada.id, "ada@example.org")
    (one,) = await till.subscriptions(ada)
    till.stripe.account.subscriptions.end(
        till.stripe.account.subscriptions.retrieve(one.id), "cancellation_requested"
    )
    await till.deliver()
    await till.buy(await till.again(ada))
    assert len(till.stripe.of("customer")) == 1
