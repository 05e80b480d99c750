"""A Stripe that does not know what it said before: another account's key, another mode, somebody else's address."""

from __future__ import annotations

import pytest

from tests.billing.test_looks import customer_of, looks, subscribe_there
from tests.billing.till import Till
from tests.drivers.stripe.crooked import open_crooked
from zlh.billing.looks import Looks
from zlh.billing.standings import standing_of
from zlh.drivers.errors import Invalid, Unreachable
from zlh.drivers.stripe import StripeDriver
from zlh.model.accounts import Account
from zlh.model.errors import UnavailableError
from zlh.simulators.agent.http import Response
from zlh.simulators.stripe import KEY

UNRECOGNIZED = b'{"error": {"type": "invalid_request_error", "message": "Unrecognized request URL (GET: /x)."}}'


async def ada_who_pays(till: Till) -> Account:
    """With a container that runs."""
    ada = await till.buy(await till.account("ada"))
    await till.container(ada)
    return await till.again(ada)


def forget(till: Till, *tables: str) -> dict[str, dict[str, object]]:
    """What Stripe had in these tables, which it does not have any more."""
    book = till.stripe.account.book.tables
    had = {table: dict(book[table]) for table in tables}
    for table in tables:
        book[table].clear()
    return had


async def test_the_key_of_another_account_of_stripes_suspends_nobody(till: Till) -> None:
    """With it no customer exists and every list is empty: that is not as if everybody had gone."""
    ada = await ada_who_pays(till)
    before = await till.subscriptions(ada)
    had = forget(till, "customer", "subscription")
    with pytest.raises(Invalid, match="key"):
        await looks(till).account(ada.id)
    report = await till.billing.reconciler.reconcile("nightly")
    assert report.error is not None
    await till.pass_time(days=40, deliver=False)
    assert standing_of(await till.again(ada)) == standing_of(ada)
    assert await till.subscriptions(ada) == before
    # Nobody buys anything there meanwhile.
    with pytest.raises(UnavailableError):
        await till.desk.subscribe(ada, "starter")

    # The right key again: everything is as it was.
    for table, rows in had.items():
        till.stripe.account.book.tables[table].update(rows)
    seen = await looks(till).account(ada.id)
    assert seen is not None
    assert [one.id for one in seen.subscriptions] == [one.id for one in before]


@pytest.mark.parametrize("body", [b"", b"<html>not here</html>", b"{}", UNRECOGNIZED])
async def test_what_answers_404_to_everything_suspends_nobody(till: Till, body: bytes) -> None:
    """A proxy, say, or a wrong address: what it does not have says nothing of what Stripe has."""
    ada = await ada_who_pays(till)
    before = await till.subscriptions(ada)
    async with open_crooked(Response(404, body, "application/json")) as url:
        elsewhere = StripeDriver(url, KEY, "zlh", seconds=5)
        with pytest.raises(Unreachable):
            await Looks(till.database, elsewhere, till.billing.standings, till.now).account(ada.id)
        await elsewhere.aclose()
    assert (await till.again(ada), await till.subscriptions(ada)) == (ada, before)


async def test_a_schedule_that_stripe_does_not_have_is_no_customer_that_is_gone(till: Till) -> None:
    ada = await till.buy(await till.account("ada"), "standard")
    await till.desk.switch_later(ada, "starter")
    await till.deliver()
    (before,) = await till.subscriptions(ada)
    assert before.schedule_id is not None
    forget(till, "subscription_schedule")
    with pytest.raises(Invalid):
        await looks(till).account(ada.id)
    assert await till.subscriptions(ada) == [before]
    assert await customer_of(till, ada) == before.customer_id


async def test_one_customer_who_cannot_be_looked_at_keeps_nobody_else_from_being_compared(till: Till) -> None:
    ada, bob = await till.account("ada"), await till.account("bob")
    for account in (ada, bob):
        till.stripe.pay(await till.open_page(account, "starter"))
    people = {await customer_of(till, one): one for one in (ada, bob)}
    first, second = sorted(people)
    till.lose()
    del till.stripe.account.book.tables["customer"][first]
    report = await till.billing.reconciler.reconcile("nightly")
    assert report.error is not None
    assert (await till.again(people[second])).plan == "starter"
    assert (await till.again(people[first])).plan is None
    found = {one["customer_id"]: one["repair"] for one in report.findings if one["kind"] == "different_at_stripe"}
    assert found == {first: None, second: "looked at, and written"}


async def test_neither_does_a_stranger_who_cannot_be_read(till: Till) -> None:
    stranger = till.stripe.account.customers.make({"email": "stranger@example.com"}, {})
    till.stripe.account.cards.enter(stranger)
    subscribe_there(till, stranger["id"])
    ada = await till.account("ada")
    till.stripe.pay(await till.open_page(ada, "starter"))
    till.lose()
    till.stripe.account.book.tables["customer"][stranger["id"]]["metadata"] = 5
    report = await till.billing.reconciler.reconcile("nightly")
    assert report.error is not None
    assert stranger["id"] in report.error
    assert (await till.again(ada)).plan == "starter"
