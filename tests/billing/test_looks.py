from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.billing.till import Till, open_till
from zlh.billing.looks import Looks, Seen
from zlh.billing.standings import standing_of
from zlh.drivers.errors import Unreachable
from zlh.model.accounts import Account
from zlh.model.billing import Customer, Subscription, SubscriptionStatus
from zlh.simulators.stripe import Card, FaultName
from zlh.store import billing_customers


def looks(till: Till) -> Looks:
    assert till.billing.looks is not None
    return till.billing.looks


async def customer_of(till: Till, account: Account) -> str:
    known = await till.database.run(billing_customers.of_account, account.id)
    assert known is not None
    return known.id


def subscribe_there(till: Till, customer: str, price: str = "price_starter") -> str:
    """Another subscription, past us; its id."""
    book = till.stripe.account
    made = book.subscriptions.make(book.customers.retrieve(customer), [(book.prices.retrieve(price), 1)], {}, None)
    return str(made["id"])


class Slow:
    """A driver that lets others look between what it asked and what it says."""

    def __init__(self, till: Till, meanwhile: Callable[[], Any]) -> None:
        self._driver = till.driver
        self._meanwhile = meanwhile

    async def customer(self, customer_id: str) -> Customer:
        return await self._driver.customer(customer_id)

    async def subscriptions(self, customer_id: str, looked_at: Any) -> list[Subscription]:
        found = await self._driver.subscriptions(customer_id, looked_at)
        meanwhile, self._meanwhile = self._meanwhile, _nothing
        await meanwhile()
        return found


async def _nothing() -> None:
    pass


async def test_a_look_writes_all_that_there_is_and_what_follows(till: Till) -> None:
    ada = await till.account("ada")
    till.stripe.pay(await till.open_page(ada, "starter"))
    seen = await looks(till).account(ada.id)
    assert seen is not None
    assert [one.status for one in seen.subscriptions] == [SubscriptionStatus.ACTIVE]
    assert await till.subscriptions(ada) == list(seen.subscriptions)
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status) == ("starter", "active")
    assert till.told == [ada]


async def test_who_is_no_customer_is_not_looked_at(till: Till) -> None:
    ada = await till.account("ada")
    assert await looks(till).account(ada.id) is None
    assert not till.stripe.calls


async def test_a_look_that_began_earlier_and_ends_later_overwrites_nothing(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    customer = await customer_of(till, ada)

    async def cancel_meanwhile() -> None:
        (one,) = await till.subscriptions(ada)
        till.stripe.account.subscriptions.end(
            till.stripe.account.subscriptions.retrieve(one.id), "cancellation_requested"
        )
        await looks(till).customer(customer)

    slow = Looks(till.database, Slow(till, cancel_meanwhile), till.billing.standings, till.now)  # type: ignore[arg-type]
    seen = await slow.customer(customer)
    # It looked again, and says what is so.
    assert [one.status for one in seen.subscriptions] == [SubscriptionStatus.CANCELED]
    assert (await till.again(ada)).billing_status == "canceled"


async def test_who_is_overtaken_again_and_again_says_what_the_others_wrote(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    customer = await customer_of(till, ada)

    class Overtaken(Slow):
        async def subscriptions(self, customer_id: str, looked_at: Any) -> list[Subscription]:
            found = await till.driver.subscriptions(customer_id, looked_at)
            await looks(till).customer(customer)
            return found

    slow = Looks(till.database, Overtaken(till, _nothing), till.billing.standings, till.now)  # type: ignore[arg-type]
    seen = await slow.customer(customer)
    assert seen == Seen(Customer(customer, None), ada.id, tuple(await till.subscriptions(ada)))


async def test_many_who_look_at_once_agree(till: Till) -> None:
    ada = await till.account("ada")
    till.stripe.pay(await till.open_page(ada, "starter"))
    customer = await customer_of(till, ada)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(looks(till).customer, customer)
    assert (await till.again(ada)).plan == "starter"
    assert await till.letters() == ["subscription_begun"]
    assert len(till.told) == 1


async def test_stripe_that_does_not_answer_changes_nothing(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    before = await till.subscriptions(ada)
    for fault in (FaultName.GARBAGE, FaultName.REFUSING):
        till.stripe.cause(fault)
        with pytest.raises(Unreachable):
            await looks(till).account(ada.id)
        till.stripe.calm()
    assert await till.subscriptions(ada) == before
    assert await till.again(ada) == ada


async def test_a_customer_that_was_deleted_has_nothing_any_more_and_the_next_order_makes_another(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    await till.container(ada)
    first = await customer_of(till, ada)
    till.stripe.account.customers.delete(first)
    await till.deliver()
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status) == (None, "canceled")
    assert ada.suspended_at is not None
    till.stripe.advance(3 * 3600)
    ada = await till.buy(ada, "standard")
    assert (ada.plan, ada.suspended_at) == ("standard", None)
    assert await customer_of(till, ada) != first


async def test_of_two_subscriptions_the_paid_one_counts_and_people_are_told(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    customer = await customer_of(till, ada)
    second = subscribe_there(till, customer, "price_studio")
    await till.deliver()
    assert len(await till.subscriptions(ada)) == 2
    report = await till.billing.reconciler.reconcile("asked")
    (finding,) = [one for one in report.findings if one["kind"] == "two_subscriptions"]
    assert second in finding["detail"]
    assert finding["repair"]
    till.stripe.account.subscriptions.end(
        till.stripe.account.subscriptions.retrieve(second), "cancellation_requested"
    )
    await till.deliver()
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status, ada.suspended_at) == ("starter", "active", None)


async def test_a_subscription_of_a_customer_that_nobody_knows_is_kept_and_reported(till: Till) -> None:
    stranger = till.stripe.account.customers.make({"email": "stranger@example.com"}, {})
    till.stripe.account.cards.enter(stranger)
    subscribe_there(till, stranger["id"])
    await till.deliver()
    report = await till.billing.reconciler.reconcile("asked")
    assert [one["kind"] for one in report.findings] == ["unknown_customer"]
    # One that vanishes with its customer is not reported for ever.
    del till.stripe.account.book.tables["customer"][stranger["id"]]
    till.stripe.account.book.tables["subscription"].clear()
    await till.billing.reconciler.reconcile("asked")
    report = await till.billing.reconciler.reconcile("asked")
    assert report.findings == []


async def test_what_another_installation_sells_is_none_of_ours(till: Till) -> None:
    ada = await till.account("ada")
    marks = {"zlh_account": str(ada.id), "zlh_installation": "staging"}
    theirs = till.stripe.account.customers.make({"email": "ada@example.com"}, marks)
    till.stripe.account.cards.enter(theirs)
    subscribe_there(till, theirs["id"])
    await till.deliver()
    assert await till.database.run(billing_customers.get, theirs["id"]) is None
    assert (await till.again(ada)).plan is None
    for dry_run in (True, False):
        report = await till.billing.reconciler.reconcile("asked", dry_run=dry_run)
        assert [one["kind"] for one in report.findings if one["kind"] != "not_compared"] == []


async def test_a_customer_that_was_made_and_not_written_down_is_known_by_its_metadata(till: Till) -> None:
    """Whoever made it died before it could be kept."""
    ada = await till.account("ada")
    marks = {"zlh_account": str(ada.id), "zlh_installation": "zlh"}
    made = till.stripe.account.customers.make({"email": "ada@example.com"}, marks)
    await till.deliver()
    assert await customer_of(till, ada) == made["id"]
    ada = await till.buy(ada)
    assert [one["id"] for one in till.stripe.of("customer")] == [made["id"]]


@pytest.mark.parametrize("word", ["0", "999999999", "x", "-1", "1e3", "9" * 30, "\u0661"])
async def test_a_customer_of_an_account_that_does_not_exist_is_nobodys(till: Till, word: str) -> None:
    made = till.stripe.account.customers.make({"email": "a@example.com"}, {"zlh_account": word})
    await till.deliver()
    known = await till.database.run(billing_customers.get, made["id"])
    assert known is not None
    assert known.account_id is None


# Whichever events come, how often, and in what order


async def live(till: Till) -> tuple[dict[str, Account], list[dict[str, Any]]]:
    """Something of everything happens to three customers at Stripe; nothing of it has come here yet. Who they are,
    and all that Stripe tells, also what it does not keep."""
    people = {name: await till.account(name) for name in ("ada", "bob", "cyd")}
    for name, plan in (("ada", "starter"), ("bob", "standard"), ("cyd", "studio")):
        till.stripe.pay(await till.open_page(people[name], plan))
    by_name = {one["email"].partition("@")[0]: one["id"] for one in till.stripe.of("customer")}
    for account in people.values():
        await till.container(account)
    till.stripe.set_card(by_name["bob"], Card.DECLINED)
    (cyds,) = till.stripe.of("subscription", customer=by_name["cyd"])
    till.stripe.cancel(cyds["id"])
    till.stripe.advance(40 * 86400)
    told = {event["id"]: event for event in till.stripe.events}
    till.stripe.fix_card(by_name["bob"])
    till.stripe.set_card(by_name["ada"], Card.DECLINED)
    till.stripe.advance(24 * 86400)
    told |= {event["id"]: event for event in till.stripe.events}
    return people, list(told.values())


async def outcome(till: Till, people: dict[str, Account]) -> dict[str, Any]:
    while await till.billing.timekeeper.round():
        pass
    end: dict[str, Any] = {}
    for name, account in people.items():
        known = standing_of(await till.again(account))
        # Each run has its own beginning.
        began = till.stripe.of("customer")[0]["created"]
        suspended = None if known.suspended_at is None else round((known.suspended_at.timestamp() - began) / 86400)
        suspends = None if known.suspends_at is None else round((known.suspends_at.timestamp() - began) / 86400)
        states = [(one.status, one.price_id) for one in await till.subscriptions(account)]
        end[name] = (known.plan, known.billing_status, suspended, suspends, states)
    return end


EXPECTED_STATUS = {"ada": "past_due", "bob": "active", "cyd": "canceled"}


async def test_duplicates_disorder_and_gaps_all_end_in_the_same(postgres_server: Any) -> None:
    """In order; shuffled, some twice; all of one customer's lost and caught up with; a week of them replayed; and all
    lost and found at night."""
    ends = []
    chance = random.Random(1)
    for way in ("in order", "shuffled", "shuffled", "lost and caught up with", "replayed", "lost and reconciled"):
        name = postgres_server.create()
        async with open_till(postgres_server.url(name)) as till:
            await till.billing.reconciler.reconcile("nightly")
            people, events = await live(till)
            if way == "in order":
                await till.deliver(events)
            elif way == "shuffled":
                mixed = events + chance.sample(events, len(events) // 2)
                chance.shuffle(mixed)
                half = len(mixed) // 2
                await till.deliver(mixed[:half])
                await till.deliver(mixed[half:])
            elif way == "lost and caught up with":
                lost = chance.choice([one["id"] for one in till.stripe.of("customer")[:2]])
                kept = [one for one in events if lost not in str(one["data"])]
                chance.shuffle(kept)
                await till.deliver(kept)
                assert await till.billing.reconciler.catch_up() > 0
                await till.deliver([])
                # What happened longer ago than Stripe tells is found by comparing.
                await till.billing.reconciler.reconcile("nightly")
            elif way == "replayed":
                await till.deliver(events)
                before = await outcome(till, people)
                letters = await till.letters()
                week = [one for one in events if one["created"] > till.stripe.now() - 7 * 86400]
                assert week
                renamed = [one | {"id": f"{one['id']}_again"} for one in week]
                chance.shuffle(renamed)
                await till.deliver(renamed + week)
                assert await outcome(till, people) == before
                assert await till.letters() == letters
            else:
                till.lose()
                await till.billing.reconciler.reconcile("nightly")
            ends.append(await outcome(till, people))
            report = await till.billing.reconciler.reconcile("asked", dry_run=True)
            kinds = {one["kind"] for one in report.findings}
            assert kinds <= {"not_compared", "unpaid_but_running", "teardown_due"}, (way, report.findings)
        postgres_server.drop(name)
    assert all(end == ends[0] for end in ends), ends
    assert {name: end[1] for name, end in ends[0].items()} == EXPECTED_STATUS


async def test_nobodys_customer_is_somebodys_once_that_is_said_at_stripe(till: Till) -> None:
    ada = await till.account("ada")
    made = till.stripe.account.customers.make({"email": "ada@example.com"}, {})
    assert till.billing.looks is not None
    assert (await till.billing.looks.customer(made["id"])).account_id is None
    made["metadata"]["zlh_account"] = str(ada.id)
    assert (await till.billing.looks.customer(made["id"])).account_id == ada.id
    # Who has a customer keeps that one.
    other = till.stripe.account.customers.make({"email": "ada@example.com"}, {"zlh_account": str(ada.id)})
    for _ in range(2):
        assert (await till.billing.looks.customer(other["id"])).account_id is None
