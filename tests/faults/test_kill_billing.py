"""`kill -9` of the API around every call to Stripe and every record of orders and events, then a restart: nobody pays
twice, nothing that was paid is lost, and no order stays open.

As in `test_kill`: a first run of each journey records the places, then the API dies at each of them. Looks (`list`,
`retrieve`, a preview) change nothing: only the moment before the first of a kind is a place to die at. Events are
worked on alike whatever they tell of: the API dies over them in the two journeys in which nothing else tells. What a
dead process held is free again after minutes; here that time is over when the next one starts.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import trio

from tests.faults.points import BILLING, BILLING_WRITES
from tests.faults.selling import in_database, let_go, open_selling
from tests.faults.world import PASSWORD, World, open_world
from zlh.simulators.stripe import SimulatedStripe

pytestmark = pytest.mark.faults

LANES = 2
LOOKS = ("list", "retrieve", "create_preview")
CHANGES = {
    "stripe.customer.create",
    "stripe.session.create",
    "stripe.subscription.update",
    "stripe.subscriptionschedule.create",
    "stripe.subscriptionschedule.update",
}
OFTEN = ("inbox.", "look.")
"""What happens for every event: the first time is as good a place to die at as the twelfth."""

LEFT = (
    ("orders are open", "SELECT count(*) FROM billing_orders WHERE state = 'open'"),
    ("events are not done", "SELECT count(*) FROM billing_events WHERE done_at IS NULL"),
)


@dataclass
class Market:
    """A world that sells; the API in it may die at any moment. `operator` is an operator's token."""

    world: World
    stripe: SimulatedStripe
    operator: str = ""

    async def call(self, method: str, path: str, token: str, body: object = None) -> httpx.Response:
        async with self.world.client() as client:
            return await client.request(method, path, json=body, headers={"Authorization": f"Bearer {token}"})

    async def register(self, name: str) -> tuple[int, str]:
        """(account, access token); nothing was bought yet."""
        body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
        answer = await self.world.call("POST", "/api/auth/register", body)
        return answer["user"]["id"], answer["token"]

    async def left(self) -> list[str]:
        """What is not done yet."""

        def ask(connection: Any) -> list[str]:
            counted = [(words, connection.execute(query.encode()).fetchone()[0]) for words, query in LEFT]
            return [f"{count} {words}" for words, count in counted if count]

        return await in_database(self.world, ask)

    async def disagreements(self) -> list[str]:
        """What an operator sees: here, and of a comparison with all that Stripe has."""
        books = (await self.call("GET", "/api/operators/billing/invariants", self.operator)).json()
        compared = (await self.call("POST", "/api/billing/reconcile", self.operator, {})).json()
        found = [*books["findings"], *compared["findings"]]
        return [f"{one['kind']}: {one['detail']}" for one in found] + (
            [compared["error"]] if compared["error"] else []
        )


class Journey:
    """Something that a customer does, of whom nobody has heard before. `act` is what the API dies in; who got no
    answer calls it again. Raises httpx.TransportError where the API is dead. `paid` are the amounts of the invoices,
    0 for one whose amount depends on the second of the month; `told` says that only a webhook tells how it went."""

    paid: tuple[int, ...] = (900,)
    told = False

    def __init__(self, market: Market, name: str) -> None:
        self.market, self.name = market, name
        self.account, self.token = 0, ""

    async def prepare(self) -> None:
        self.account, self.token = await self.market.register(self.name)

    async def act(self) -> None:
        raise NotImplementedError

    def wrong(self, billing: dict[str, Any]) -> str | None:
        """What is not yet as it is to be in GET /api/billing."""
        raise NotImplementedError

    async def post(self, path: str, body: object = None, *over: str) -> dict[str, Any]:
        """Again until it is answered for good. Answers with a code of `over` are as good: it was done before."""
        while True:
            answer = await self.market.call("POST", f"/api/billing{path}", self.token, body or {})
            document: dict[str, Any] = answer.json()
            if answer.is_success or document["code"] in over:
                return document
            assert answer.headers.get("Retry-After"), (path, document)
            await trio.sleep(0.1)

    async def billing(self) -> dict[str, Any]:
        answer = await self.market.call("GET", "/api/billing", self.token)
        document: dict[str, Any] = answer.json()
        return document

    async def seen(self) -> None:
        """Waits until it is as it is to be."""
        while self.wrong(await self.billing()):  # noqa: ASYNC110 - another process decides
            await trio.sleep(0.05)

    async def subscribe(self) -> None:
        """Pays once, however often the page is asked for."""
        stripe = self.market.stripe
        url = (await self.post("/checkout", {"plan": "starter"}, "subscribed")).get("url")
        session = next((one for one in stripe.of("checkout.session") if one["url"] == url), None)
        if url is not None and session is not None:
            stripe.pay(session["id"])

    async def subscribed(self) -> None:
        await self.subscribe()
        while (await self.billing())["status"] != "active" or await self.market.left():  # noqa: ASYNC110
            await trio.sleep(0.05)

    @property
    def subscriptions(self) -> list[dict[str, Any]]:
        return [one for owner in self._customers() for one in self.market.stripe.of("subscription", customer=owner)]

    async def problems(self) -> list[str]:
        """Once all is calm: money first."""
        found = await self.market.left()
        if missing := self.wrong(await self.billing()):
            found.append(missing)
        if len(customers := self._customers()) != 1:
            found.append(f"{len(customers)} customers at Stripe")
        if len(self.subscriptions) != 1:
            found.append(f"{len(self.subscriptions)} subscriptions")
        invoices = [one for owner in customers for one in self.market.stripe.of("invoice", customer=owner)]
        paid = [invoice["amount_paid"] for invoice in invoices]
        if len(paid) != len(self.paid) or any(
            told and told != one for told, one in zip(self.paid, paid, strict=False)
        ):
            found.append(f"paid {paid}")
        return found + await self.market.disagreements()

    def _customers(self) -> list[str]:
        mine = str(self.account)
        return [one["id"] for one in self.market.stripe.of("customer") if one["metadata"].get("zlh_account") == mine]


class Subscribing(Journey):
    told = True

    async def act(self) -> None:
        await self.subscribe()
        await self.seen()

    def wrong(self, billing: dict[str, Any]) -> str | None:
        return None if billing["status"] == "active" else f"the plan is {billing['status']}"


class Switching(Journey):
    paid = (900, 0)
    change: dict[str, Any] | None = None

    async def prepare(self) -> None:
        await super().prepare()
        await self.subscribed()
        path = "/api/billing/plan/preview?plan=standard"
        shown = (await self.market.call("GET", path, self.token)).json()
        self.change = {"plan": "standard", "when": "now"} | {
            name: shown[name] for name in ("prorationDate", "amountDue")
        }

    async def act(self) -> None:
        # A process that went on with it meanwhile was quicker, or changed it between two of our questions.
        await self.post("/plan", self.change, "same_plan", "preview_changed")
        await self.seen()

    def wrong(self, billing: dict[str, Any]) -> str | None:
        name = billing["plan"] and billing["plan"]["name"]
        return None if name == "standard" else f"the plan is {name}"


class SwitchingLater(Journey):
    async def prepare(self) -> None:
        await super().prepare()
        await self.subscribed()

    async def act(self) -> None:
        await self.post("/plan", {"plan": "standard", "when": "period_end"})
        await self.seen()

    def wrong(self, billing: dict[str, Any]) -> str | None:
        return None if billing["subscription"]["nextPlan"] == "standard" else "it does not become another plan"


class Cancelling(Journey):
    async def prepare(self) -> None:
        await super().prepare()
        await self.subscribed()

    async def act(self) -> None:
        await self.post("/cancel")
        await self.seen()

    def wrong(self, billing: dict[str, Any]) -> str | None:
        return None if billing["subscription"]["endsAt"] else "it does not end"


class CancellingAtStripe(Cancelling):
    """On Stripe's own page: nobody asks us anything."""

    told = True

    async def act(self) -> None:
        self.market.stripe.cancel(self.subscriptions[0]["id"])
        await self.seen()


JOURNEYS: tuple[type[Journey], ...] = (Subscribing, Switching, SwitchingLater, Cancelling, CancellingAtStripe)


@dataclass(frozen=True)
class Outcome:
    journey: str
    place: str
    problems: list[str]
    passed: bool = True


async def test_a_kill_around_any_call_to_stripe_charges_nobody_twice(capsys: pytest.CaptureFixture[str]) -> None:
    todo: list[tuple[type[Journey], str]] = []
    outcomes: list[Outcome] = []
    recorded = trio.Event()
    numbers = itertools.count(1)

    async def lane(number: int) -> None:
        async with open_market() as market:
            pid = await market.world.start()
            market.operator = await market.world.make_operator()
            if number == 0:
                for kind in JOURNEYS:
                    places = await record(market, kind(market, f"buyer{next(numbers)}"), pid)
                    todo.extend((kind, place) for place in places)
                recorded.set()
            await recorded.wait()
            while todo:
                kind, place = todo.pop(0)
                journey = kind(market, f"buyer{next(numbers)}")
                pid, outcome = await die_at(market, journey, place, pid)
                outcomes.append(outcome)
            await market.world.kill(pid)

    async with trio.open_nursery() as nursery:
        for number in range(LANES):
            nursery.start_soon(lane, number)
    with capsys.disabled():
        print()
        for one in sorted(outcomes, key=lambda one: (one.journey, one.place)):
            print(f"{one.journey:<19} {one.place:<45} {'; '.join(one.problems) or ('holds' if one.passed else '-')}")
    assert [one for one in outcomes if one.problems] == []
    assert {one.journey for one in outcomes} == {kind.__name__ for kind in JOURNEYS}
    # A place that was renamed would not be died at any more.
    assert {*BILLING_WRITES.values(), *CHANGES} <= {one.place.split()[0] for one in outcomes if one.passed}
    assert len([one for one in outcomes if not one.passed]) < len(outcomes) / 10


async def record(market: Market, journey: Journey, pid: int) -> list[str]:
    """The places that the journey passes when nothing goes wrong."""
    file = market.world.folder / f"places-{journey.name}"
    with trio.fail_after(30):
        await journey.prepare()
        market.world.arm(pid, record=file)
        await journey.act()
        assert await calm(market, journey) == []
    market.world.arm(pid)
    places = (await trio.Path(file).read_text()).splitlines()
    return [place for place in places if _worth_dying_at(place, told=journey.told)]


async def die_at(market: Market, journey: Journey, place: str, pid: int) -> tuple[int, Outcome]:
    """One death there, one restart, and a look at everything; the pid of the API that lives on."""
    world, kind = market.world, type(journey).__name__
    with trio.fail_after(30):
        await journey.prepare()
    world.arm(pid, target=place)
    try:
        with trio.fail_after(30):
            await journey.act()
            await calm(market, journey)
    except httpx.TransportError:
        pass
    if await world.death(pid, within=0.2) is None:
        world.arm(pid)
        return pid, Outcome(kind, place, await calm(market, journey), passed=False)
    await let_go(world)
    pid = await world.start()
    try:
        with trio.fail_after(30):
            await journey.act()
            problems = await calm(market, journey)
    except (trio.TooSlowError, httpx.HTTPError, AssertionError, KeyError, TypeError) as error:
        problems = [f"{type(error).__name__}: {error}", *await market.left()]
    return pid, Outcome(kind, place, problems)


async def calm(market: Market, journey: Journey) -> list[str]:
    """What is wrong once nothing is under way any more."""
    with trio.move_on_after(20):
        while await market.left() or market.stripe.webhooks.pending:  # noqa: ASYNC110 - another process decides
            await trio.sleep(0.05)
    return await journey.problems()


def _worth_dying_at(place: str, *, told: bool) -> bool:
    name, number = place.partition(",")[0].split()
    if name.startswith(OFTEN):
        return told and number == "1"
    return not name.endswith(LOOKS) or (number == "1" and place.endswith("before"))


@asynccontextmanager
async def open_market() -> AsyncIterator[Market]:
    async with open_world() as world, open_selling(world) as stripe:
        world.settings |= {
            BILLING: "yes",
            "ZLH_ACCOUNTS_ATTEMPTS_PER_ACCOUNT": "10000",
            "ZLH_ACCOUNTS_ATTEMPTS_PER_ADDRESS": "100000",
        }
        yield Market(world, stripe)
