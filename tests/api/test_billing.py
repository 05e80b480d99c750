"""/api/billing over a simulated Stripe: what customers order and see, what Stripe may tell, what operators do."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import orjson
import pytest
import sqlalchemy as sa
from stripe import WebhookSignature

from tests.api.world import GOOD_INSTANCE, PAPER, PLANS, WEBHOOK_SECRETS, Answer, World, open_world
from tests.billing.till import PRICES
from tests.store.samples import reserve
from zlh.api import answers, billing, billing_oversight, billing_webhook
from zlh.api.accounts import ChangedAccount
from zlh.api.routes.billing import CUSTOMERS
from zlh.api.routing import SAFE, Who
from zlh.model.access import Scope
from zlh.model.accounts import Account, Role
from zlh.model.billing_orders import OrderKind, OrderState
from zlh.model.container_hours import Interval, Running
from zlh.model.containers import ContainerType
from zlh.simulators.stripe import Card, FaultName, SimulatedStripe, open_stripe
from zlh.store import billing_orders, container_hours
from zlh.store.billing_tables import billing_events

SECRET = WEBHOOK_SECRETS[0]
WHY = "a friend of the house"


@dataclass
class Shop:
    """A world in which plans are sold. What happens at Stripe is known here once it was delivered."""

    world: World
    stripe: SimulatedStripe
    _read: int = 0

    async def customer(self, name: str = "ada") -> tuple[Account, str]:
        """One without a plan: (account, access token)."""
        return await self.world.account(name, plan=None)

    async def post(self, path: str, token: str, body: Any = None, **headers: str) -> Answer:
        return await self.world.call("POST", f"/api/billing{path}", token, body or {}, **headers)

    async def get(self, path: str, token: str) -> Answer:
        return await self.world.call("GET", f"/api/billing{path}", token)

    async def status(self, token: str) -> Any:
        answer = await self.get("", token)
        assert answer.status == 200, answer.raw
        billing.BillingAnswer.model_validate_json(answer.raw)
        return answer.json

    async def page(self, token: str, plan: str = "starter") -> str:
        """The address of the page on which the plan is paid."""
        answer = await self.post("/checkout", token, {"plan": plan})
        assert answer.status == 200, answer.raw
        url: str = billing.Address.model_validate_json(answer.raw).url
        return url

    def pay(self, page: str, card: Card = Card.WORKS) -> None:
        self.stripe.pay(page.rpartition("/")[2], card)

    async def buy(self, token: str, plan: str = "starter") -> None:
        """Paid for, and known here."""
        self.pay(await self.page(token, plan))
        await self.deliver()

    async def deliver(self) -> None:
        """Posts what Stripe had to tell since the last time, and works on it."""
        fresh = self.stripe.events[self._read :]
        self._read += len(fresh)
        for event in fresh:
            assert (await self.hook(orjson.dumps(event))).status == 200
        await self.work()

    async def work(self) -> None:
        inbox = self.world.services.billing.inbox
        assert inbox is not None
        while await inbox.round():
            pass

    async def hook(self, body: bytes, header: str | None = None) -> Answer:
        """As Stripe posts it; signed as the library checks it unless there is a header."""
        signed = header if header is not None else signature(body)
        return await self.world.call("POST", "/api/billing/webhook", raw=body, Stripe_Signature=signed)

    async def received(self) -> int:
        """How many events are in the inbox."""
        query = sa.select(sa.func.count()).select_from(billing_events)
        return int(await self.world.services.database.run(lambda connection: connection.execute(query).scalar_one()))


def signature(body: bytes, secret: str = SECRET, *, at: float | None = None) -> str:
    made = int(time.time() if at is None else at)
    return f"t={made},v1={WebhookSignature._compute_signature(f'{made}.{body.decode()}', secret)}"


def refusal(answer: Answer) -> tuple[int, str]:
    answers.Problem.model_validate_json(answer.raw)
    return answer.status, answer.json["code"]


@pytest.fixture
async def shop(postgres_url: str) -> AsyncIterator[Shop]:
    async with open_stripe(PRICES) as stripe, open_world(postgres_url, stripe=stripe) as world:
        yield Shop(world, stripe)


# What is sold


async def test_everybody_sees_the_plans_that_are_for_sale_the_cheapest_first(world: World) -> None:
    answer = await world.call("GET", "/api/billing/plans")
    shown = billing.Plans.model_validate_json(answer.raw).plans
    assert [(plan.name, plan.price, plan.currency) for plan in shown] == [
        ("starter", 900, "eur"),
        ("standard", 2400, "eur"),
        ("studio", 7900, "eur"),
    ]
    assert shown[0].limits.memory_mib == PLANS["starter"].memory_mib


async def test_without_a_stripe_nothing_is_sold_and_all_the_rest_works(world: World) -> None:
    _, token = await world.account("ada")
    for path, body in (
        ("checkout", {}),
        ("portal", {}),
        ("plan", {"plan": "studio"}),
        ("cancel", {}),
        ("resume", {}),
    ):
        assert refusal(await world.call("POST", f"/api/billing/{path}", token, body)) == (409, "not_selling"), path
    preview = await world.call("GET", "/api/billing/plan/preview?plan=studio", token)
    assert refusal(preview) == (409, "not_selling")
    assert refusal(await world.call("POST", "/api/billing/webhook", raw=b"{}")) == (404, "not_found")
    shown = await world.call("GET", "/api/billing", token)
    billing.BillingAnswer.model_validate_json(shown.raw)
    assert (shown.json["selling"], shown.json["plan"]["name"], shown.json["given"]) == (False, "starter", True)


# Checkout


async def test_a_customer_pays_and_may_then_order_servers(shop: Shop) -> None:
    _, token = await shop.customer()
    refused = await shop.world.call("POST", "/api/instances", token, GOOD_INSTANCE)
    assert (refused.status, refused.json["code"]) == (402, "no_active_plan")
    page = await shop.page(token)
    assert page.startswith(shop.stripe.url)
    # Whoever asks twice is sent to the same page: with two of them somebody could pay twice.
    assert await shop.page(token) == page
    shop.pay(page)
    # That somebody came back says nothing; only what Stripe has does.
    assert (await shop.status(token))["status"] is None
    await shop.deliver()
    shown = await shop.status(token)
    assert (shown["status"], shown["plan"]["name"], shown["given"]) == ("active", "starter", False)
    assert (shown["subscription"]["price"], shown["subscription"]["currency"]) == (900, "eur")
    me = (await shop.world.call("GET", "/api/auth/me", token)).json["user"]
    assert (me["billing_status"], me["suspended_at"]) == ("active", None)
    profile = (await shop.world.call("GET", "/api/users/profile", token)).json
    assert (profile["billing_status"], profile["plan_name"]) == ("active", "Starter")
    assert (await shop.world.call("POST", "/api/instances", token, GOOD_INSTANCE)).status == 202


async def test_a_declined_card_activates_nothing(shop: Shop) -> None:
    _, token = await shop.customer()
    shop.stripe.decline((await shop.page(token)).rpartition("/")[2])
    await shop.deliver()
    assert (await shop.status(token))["subscription"] is None


async def test_another_plan_closes_the_page_of_before(shop: Shop) -> None:
    _, token = await shop.customer()
    first, second = await shop.page(token), await shop.page(token, "standard")
    assert first != second
    (old,) = [one for one in shop.stripe.of("checkout.session") if one["id"] == first.rpartition("/")[2]]
    assert old["status"] == "expired"


async def test_there_is_never_a_second_subscription(shop: Shop) -> None:
    _, token = await shop.customer()
    page = await shop.page(token)
    shop.pay(page)
    # Before anything of it was heard, and after.
    for _ in range(2):
        answer = await shop.post("/checkout", token, {"plan": "studio"})
        assert refusal(answer) == (409, "subscribed")
        assert answer.json["details"] == {"plan": "starter", "status": "active"}
        await shop.deliver()
    assert len(shop.stripe.of("subscription")) == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"plan": "gold"}, "unknown_plan"),
        # There is such a plan, but nobody can buy it.
        ({"plan": "unlimited"}, "unknown_plan"),
        ({"plan": "price_starter"}, "unknown_plan"),
        ({"plan": 7}, "invalid"),
        ({"plan": ""}, "invalid"),
        ({"plan": "a b"}, "invalid"),
        ({"plan": "x" * 65}, "invalid"),
        (["starter"], "invalid"),
    ],
    ids=str,
)
async def test_what_cannot_be_bought(shop: Shop, body: Any, code: str) -> None:
    _, token = await shop.customer()
    assert refusal(await shop.post("/checkout", token, body)) == (400, code)
    assert shop.stripe.of("checkout.session") == []


async def test_without_a_name_it_is_the_cheapest_plan(shop: Shop) -> None:
    _, token = await shop.customer()
    answer = await shop.post("/checkout", token)
    shop.pay(answer.json["url"])
    await shop.deliver()
    assert (await shop.status(token))["plan"]["name"] == "starter"


async def test_the_portal_is_for_whoever_was_at_the_checkout(shop: Shop) -> None:
    _, token = await shop.customer()
    assert refusal(await shop.post("/portal", token)) == (409, "no_customer")
    await shop.buy(token)
    answer = await shop.post("/portal", token)
    assert billing.Address.model_validate_json(answer.raw).url.startswith(f"{shop.stripe.url}/p/session/")


async def test_one_key_one_checkout(shop: Shop) -> None:
    _, token = await shop.customer()
    first = await shop.post("/checkout", token, {"plan": "starter"}, Idempotency_Key="k")
    shop.pay(first.json["url"])
    await shop.deliver()
    again = await shop.post("/checkout", token, {"plan": "starter"}, Idempotency_Key="k")
    assert (again.status, again.raw) == (first.status, first.raw)
    other = await shop.post("/checkout", token, {"plan": "studio"}, Idempotency_Key="k")
    assert other.status == 422


# Another plan


async def preview(shop: Shop, token: str, plan: str) -> Any:
    answer = await shop.get(f"/plan/preview?plan={plan}", token)
    assert answer.status == 200, answer.raw
    billing.PreviewAnswer.model_validate_json(answer.raw)
    return answer.json


def confirmed(shown: Any) -> dict[str, Any]:
    """The change that a preview was of."""
    return {
        "plan": shown["plan"]["name"],
        "when": "now",
        "prorationDate": shown["prorationDate"],
        "amountDue": shown["amountDue"],
    }


async def test_a_larger_plan_costs_what_the_preview_said(shop: Shop) -> None:
    _, token = await shop.customer()
    await shop.buy(token)
    shown = await preview(shop, token, "standard")
    assert (shown["fromPlan"], shown["when"], shown["currency"], shown["exceeded"]) == ("starter", "now", "eur", [])
    assert shown["amountDue"] == sum(line["amount"] for line in shown["lines"]) > 0
    answer = await shop.post("/plan", token, confirmed(shown))
    assert answer.status == 200, answer.raw
    ordered = billing.Ordered.model_validate_json(answer.raw)
    # At once: a webhook would bring it a moment later.
    assert (ordered.order.state, ordered.billing.plan and ordered.billing.plan.name) == (OrderState.DONE, "standard")
    paid = [invoice["amount_paid"] for invoice in shop.stripe.of("invoice")]
    assert paid == [900, shown["amountDue"]]


async def test_a_change_needs_a_preview_that_is_fresh_and_true(shop: Shop) -> None:
    _, token = await shop.customer()
    await shop.buy(token)
    shown = await preview(shop, token, "standard")
    stale = (datetime.now(UTC) - timedelta(minutes=11)).isoformat()
    early = (datetime.now(UTC) + timedelta(minutes=11)).isoformat()
    for change, code in (
        ({"prorationDate": None}, "preview_needed"),
        ({"amountDue": None}, "preview_needed"),
        ({"prorationDate": stale}, "preview_needed"),
        ({"prorationDate": early}, "preview_needed"),
        ({"amountDue": shown["amountDue"] - 1}, "preview_changed"),
    ):
        assert refusal(await shop.post("/plan", token, confirmed(shown) | change)) == (409, code), change
    for wrong in ({"amountDue": 9.5}, {"prorationDate": "yesterday"}, {"when": "later"}, {"plan": None}):
        assert refusal(await shop.post("/plan", token, confirmed(shown) | wrong)) == (400, "invalid"), wrong
    assert (await shop.status(token))["plan"]["name"] == "starter"
    assert len(shop.stripe.of("invoice")) == 1


async def test_of_two_tabs_one_changes_the_plan(shop: Shop) -> None:
    _, token = await shop.customer()
    await shop.buy(token)
    one, other = await preview(shop, token, "standard"), await preview(shop, token, "studio")
    assert (await shop.post("/plan", token, confirmed(one))).status == 200
    # What the other tab shows is of a plan that there is no more.
    assert refusal(await shop.post("/plan", token, confirmed(other))) == (409, "preview_changed")
    assert refusal(await shop.post("/plan", token, confirmed(one))) == (409, "same_plan")
    assert (await shop.status(token))["plan"]["name"] == "standard"
    assert len(shop.stripe.of("invoice")) == 2


async def test_one_key_one_change(shop: Shop) -> None:
    _, token = await shop.customer()
    await shop.buy(token)
    change = confirmed(await preview(shop, token, "standard"))
    first = await shop.post("/plan", token, change, Idempotency_Key="k")
    again = await shop.post("/plan", token, change, Idempotency_Key="k")
    assert (first.status, again.status, again.raw) == (200, 200, first.raw)
    assert (await shop.post("/plan", token, change | {"plan": "studio"}, Idempotency_Key="k")).status == 422


async def test_a_card_that_is_declined_leaves_the_plan_as_it_is(shop: Shop) -> None:
    _, token = await shop.customer()
    await shop.buy(token)
    shown = await preview(shop, token, "standard")
    shop.stripe.set_card(shop.stripe.of("customer")[0]["id"], Card.DECLINED)
    answer = await shop.post("/plan", token, confirmed(shown))
    assert refusal(answer) == (402, "payment_failed")
    assert answer.json["details"] == {"code": "card_declined"}
    await shop.deliver()
    shown = await shop.status(token)
    assert (shown["status"], shown["plan"]["name"]) == ("active", "starter")


async def test_a_plan_too_small_for_what_is_in_use_says_what_to_remove_or_waits(shop: Shop) -> None:
    ada, token = await shop.customer()
    await shop.buy(token, "standard")
    for _ in range(2):
        await shop.world.services.database.run(partial(reserve, owner_id=ada.id))
    shown = await preview(shop, token, "starter")
    too_many = {"limit": "games", "allowed": 1, "wanted": 2, "unit": "game containers"}
    assert (shown["when"], shown["exceeded"]) == ("period_end", [too_many])
    refused = await shop.post("/plan", token, confirmed(shown))
    assert refusal(refused) == (409, "in_use")
    assert refused.json["details"] == {"plan": "starter", "exceeded": [too_many]}
    # Without a word of when, a cheaper plan begins with the next period.
    answer = await shop.post("/plan", token, {"plan": "starter"})
    ordered = billing.Ordered.model_validate_json(answer.raw)
    assert ordered.billing.plan is not None
    assert ordered.billing.subscription is not None
    assert (ordered.billing.plan.name, ordered.billing.subscription.next_plan) == ("standard", "starter")
    taken_back = billing.Ordered.model_validate_json((await shop.post("/resume", token)).raw)
    assert taken_back.billing.subscription is not None
    assert taken_back.billing.subscription.next_plan is None


async def test_when_a_change_begins_is_a_matter_of_what_is_paid_and_not_of_what_is_given(shop: Shop) -> None:
    ada, token = await shop.customer()
    await shop.buy(token)
    await shop.world.services.billing.grants.give(ada.id, plan="studio", until=None, because=WHY, exceptions={})
    shown = await preview(shop, token, "standard")
    assert (shown["fromPlan"], shown["when"]) == ("starter", "now")
    wish = {name: value for name, value in confirmed(shown).items() if name != "when"}
    answer = await shop.post("/plan", token, wish)
    ordered = billing.Ordered.model_validate_json(answer.raw)
    assert ordered.billing.subscription is not None
    assert (ordered.order.kind, ordered.billing.subscription.plan) == (OrderKind.SWITCH, "standard")


async def test_a_subscription_ends_with_its_period_unless_that_is_taken_back(shop: Shop) -> None:
    _, token = await shop.customer()
    for path in ("/cancel", "/resume"):
        assert refusal(await shop.post(path, token)) == (409, "not_subscribed")
    assert refusal(await shop.get("/plan/preview?plan=studio", token)) == (409, "not_subscribed")
    await shop.buy(token)
    # Who asks twice is not told otherwise.
    for _ in range(2):
        ended = billing.Ordered.model_validate_json((await shop.post("/cancel", token)).raw).billing
        assert ended.subscription is not None
        assert (ended.status, ended.subscription.ends_at) == ("active", ended.subscription.period_end)
    assert refusal(await shop.post("/plan", token, {"plan": "studio", "when": "period_end"})) == (409, "ending")
    resumed = billing.Ordered.model_validate_json((await shop.post("/resume", token)).raw).billing
    assert resumed.subscription is not None
    assert resumed.subscription.ends_at is None
    assert refusal(await shop.post("/resume", token)) == (409, "nothing_to_resume")


# Webhooks


def event(stripe: SimulatedStripe) -> bytes:
    return orjson.dumps(stripe.events[-1])


async def test_a_webhook_is_kept_once_and_answered_alike(shop: Shop) -> None:
    _, token = await shop.customer()
    shop.pay(await shop.page(token))
    for _ in range(3):
        answer = await shop.hook(event(shop.stripe))
        assert answer.status == 200
        billing_webhook.Received.model_validate_json(answer.raw)
    assert await shop.received() == 1
    await shop.work()
    assert (await shop.status(token))["status"] == "active"
    # A week's worth of replay ends in the same state.
    for _ in range(2):
        shop._read = 0
        await shop.deliver()
    assert (await shop.status(token))["status"] == "active"


async def test_while_secrets_are_changed_both_sign(shop: Shop) -> None:
    await shop.customer()
    shop.stripe.account.customers.make({"email": "somebody@example.com"}, {})
    body = event(shop.stripe)
    for secret in WEBHOOK_SECRETS:
        assert (await shop.hook(body, signature(body, secret))).status == 200


async def test_forged_webhooks_are_refused_and_nothing_of_them_is_kept(shop: Shop) -> None:
    _, token = await shop.customer()
    shop.pay(await shop.page(token))
    body = event(shop.stripe)
    now = time.time()
    good = signature(body)
    for header in (
        "",
        "nonsense",
        "t=now,v1=0",
        signature(body, "whsec_of_somebody_else"),
        signature(body, ""),
        # Of another body, and of this one at another time.
        signature(body + b" "),
        good.replace("t=", "t=1"),
        good.replace("v1=", "v0="),
        signature(body, at=now - 302),
        signature(body, at=now + 302),
        good + "," * 5000,
    ):
        assert refusal(await shop.hook(body, header)) == (400, "bad_signature"), header[:80]
    unsigned = await shop.world.call("POST", "/api/billing/webhook", raw=body)
    assert refusal(unsigned) == (400, "bad_signature")
    # What was signed, cut short on its way, or changed by a byte.
    assert refusal(await shop.hook(body[:-1], good)) == (400, "bad_signature")
    assert refusal(await shop.hook(body.replace(b"900", b"901"), good)) == (400, "bad_signature")
    assert await shop.received() == 0
    assert (await shop.status(token))["status"] is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"id": "evt_1"}',
        b'{"id": 7, "type": "x", "created": 1, "livemode": false, "data": {"object": {}}}',
        b'{"id": "evt_1", "type": "x", "created": "yesterday", "livemode": false, "data": {"object": {}}}',
        b'{"id": "evt_1", "type": "x", "created": 1e400, "livemode": false, "data": {"object": {}}}',
        b'{"id": "", "type": "x", "created": 1, "livemode": false, "data": {"object": {}}}',
    ],
    ids=repr,
)
async def test_what_is_signed_and_no_event(shop: Shop, body: bytes) -> None:
    assert refusal(await shop.hook(body)) == (400, "bad_event")
    assert await shop.received() == 0


async def test_a_webhook_that_is_too_large(shop: Shop) -> None:
    body = b'{"pad": "' + b"x" * (1024 * 1024) + b'"}'
    assert refusal(await shop.hook(body)) == (413, "too_large")


async def test_events_of_what_we_do_not_know_are_taken_and_change_nothing(shop: Shop) -> None:
    body = orjson.dumps(
        {
            "id": "evt_of_the_future",
            "type": "customer.subscription.teleported",
            "created": int(time.time()),
            "livemode": False,
            "data": {"object": {"id": "sub_nobodys", "object": "subscription", "customer": "cus_nobodys"}},
        }
    )
    assert (await shop.hook(body)).status == 200
    await shop.work()
    assert await shop.world.services.billing.reconciler.books() is not None


# Who may


async def test_an_operator_in_a_customers_place_sees_and_spends_nothing(shop: Shop) -> None:
    ada, token = await shop.customer()
    await shop.buy(token)
    _, operator = await shop.world.account("op", Role.OPERATOR)
    path, why = f"/api/operators/accounts/{ada.id}/act", {"reason": "ticket 4711: cannot pay"}
    for read_only in (True, False):
        acting = (await shop.world.call("POST", path, operator, why | {"readOnly": read_only})).json["token"]
        assert (await shop.status(acting))["status"] == "active"
        for route in CUSTOMERS:
            if route.method not in SAFE and route.who is Who.SIGNED_IN:
                answer = await shop.world.call(route.method, route.path, acting, {"plan": "studio"})
                assert refusal(answer) == (403, "acting"), route.name
    assert len(shop.stripe.of("invoice")) == 1


async def test_an_api_key_needs_its_scope(shop: Shop) -> None:
    _, token = await shop.customer()
    for scopes, expected in (([Scope.SERVERS_READ], 403), ([Scope.BILLING], 200)):
        body = {"name": "accountant", "scopes": [scope.value for scope in scopes]}
        key = (await shop.world.call("POST", "/api/auth/api-keys", token, body)).json["key"]
        for method, path, wish in (
            ("GET", "", None),
            ("GET", "/hours", None),
            ("POST", "/checkout", {"plan": "starter"}),
        ):
            answer = await shop.world.call(method, f"/api/billing{path}", key, wish)
            assert answer.status == expected, (scopes, path)


async def test_who_is_suspended_may_pay(shop: Shop) -> None:
    ada, token = await shop.customer()
    await shop.world.suspend(ada)
    assert refusal(await shop.world.call("POST", "/api/instances", token, GOOD_INSTANCE)) == (403, "suspended")
    await shop.buy(token)
    assert (await shop.status(token))["status"] == "active"
    assert (await shop.post("/portal", token)).status == 200


async def test_customers_have_none_of_the_operators_routes(shop: Shop) -> None:
    ada, token = await shop.customer()
    for method, path, body in (
        ("POST", "/api/billing/reconcile", {}),
        ("GET", "/api/operators/billing/invariants", None),
        ("GET", "/api/operators/billing/hours", None),
        ("PUT", f"/api/operators/accounts/{ada.id}/plan", {"plan": "unlimited", "reason": WHY}),
    ):
        assert refusal(await shop.world.call(method, path, token, body)) == (403, "forbidden"), path


# Stripe is away


async def test_while_stripe_is_away_only_what_needs_it_waits(shop: Shop) -> None:
    _, paying = await shop.customer("ada")
    await shop.buy(paying)
    bob, token = await shop.customer("bob")
    shop.world.fleet.add(bob, PAPER)
    shop.stripe.cause(FaultName.DOWN)
    refused = await shop.post("/checkout", token, {"plan": "starter"})
    assert refusal(refused) == (503, "stripe_unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json["details"]["mayTakeEffect"] is True
    for path in ("", "/plans", "/hours"):
        assert (await shop.get(path, token)).status == 200, path
    for path in ("/api/auth/me", "/api/users/profile", "/api/servers", "/api/instances"):
        assert (await shop.world.call("GET", path, token)).status == 200, path
    for path in ("/cancel", "/portal"):
        assert refusal(await shop.post(path, paying)) == (503, "stripe_unavailable"), path
    assert refusal(await shop.get("/plan/preview?plan=studio", paying)) == (503, "stripe_unavailable")
    await shop.work()
    shown = await shop.status(paying)
    assert (shown["status"], shown["suspendedAt"]) == ("active", None)
    # The order is carried on by whoever asks for the same again.
    shop.stripe.calm()
    assert (await shop.page(token)).startswith(shop.stripe.url)
    order = await shop.world.services.database.run(
        partial(billing_orders.get, order_id=refused.json["details"]["order"])
    )
    assert order is not None
    assert order.state is OrderState.DONE
    assert len(shop.stripe.of("customer")) == 2


@pytest.mark.parametrize("fault", [FaultName.BROKEN, FaultName.REFUSING, FaultName.GARBAGE])
async def test_a_stripe_that_answers_nonsense_is_one_that_is_away(shop: Shop, fault: FaultName) -> None:
    _, token = await shop.customer()
    shop.stripe.cause(fault)
    assert refusal(await shop.post("/checkout", token, {"plan": "starter"})) == (503, "stripe_unavailable")
    shop.stripe.calm()
    await shop.buy(token)
    assert (await shop.status(token))["status"] == "active"


# Hours


async def table(answer: Answer) -> list[dict[str, str]]:
    assert answer.status == 200, answer.raw
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="container-hours-')
    return list(csv.DictReader(io.StringIO(answer.raw.decode())))


async def test_hours_are_ones_own_and_operators_see_all(shop: Shop) -> None:
    ada, hers = await shop.customer("ada")
    bob, _ = await shop.customer("bob")
    _, operator = await shop.world.account("op", Role.OPERATOR)
    began = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)

    def interval(vmid: int, account: Account, begins: datetime) -> Interval:
        what = Running(vmid, account.id, ContainerType.GAME, "starter")
        return Interval(what, begins, begins + timedelta(minutes=30))

    closed = [interval(5001, ada, began), interval(5002, bob, began), interval(5001, ada, began - timedelta(days=90))]
    await shop.world.services.database.run(lambda connection: container_hours.write(connection, closed, []))
    (row,) = await table(await shop.get("/hours", hers))
    assert (row["account"], row["vmid"], row["type"], row["plan"]) == (str(ada.id), "5001", "game", "starter")
    assert (row["started"], row["seconds"]) == (f"{began:%Y-%m-%dT%H:%M:%SZ}", "1800")
    # Another account's are not to be had by asking for them.
    assert [row["vmid"] for row in await table(await shop.get(f"/hours?account={bob.id}", hers))] == ["5001"]
    path = "/api/operators/billing/hours"
    everything = await table(await shop.world.call("GET", path, operator))
    assert [row["vmid"] for row in everything] == ["5001", "5002"]
    his = await table(await shop.world.call("GET", f"{path}?account={bob.id}", operator))
    assert [row["vmid"] for row in his] == ["5002"]
    since = quote((began - timedelta(days=100)).isoformat())
    assert len(await table(await shop.get(f"/hours?since={since}", hers))) == 2


@pytest.mark.parametrize(
    "query",
    [
        "since=yesterday",
        "since=2026-01-01T00:00:00",
        "since=2024-01-01T00:00:00Z",
        "since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z",
        "until=2026-01-01T00:00:00Z&since=2026-01-01T00:00:00Z",
        "account=0",
        "account=x",
    ],
)
async def test_hours_of_no_time(shop: Shop, query: str) -> None:
    _, operator = await shop.world.account("op", Role.OPERATOR)
    answer = await shop.world.call("GET", f"/api/operators/billing/hours?{query}", operator)
    assert refusal(answer) == (400, "invalid")


# Operators


async def test_operators_give_plans_and_exceptions_without_stripe(shop: Shop) -> None:
    ada, token = await shop.customer()
    _, operator = await shop.world.account("op", Role.OPERATOR)
    path = f"/api/operators/accounts/{ada.id}/plan"
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=14)
    given = {
        "plan": "starter",
        "until": until.isoformat(),
        "exceptions": {"games": 4, "memoryMib": 8192},
        "reason": WHY,
    }
    answer = await shop.world.call("PUT", path, operator, given)
    assert ChangedAccount.model_validate_json(answer.raw).account.plan == "starter"
    shown = await shop.status(token)
    limits = shown["plan"]["limits"]
    assert (shown["status"], shown["given"], shown["subscription"]) == ("active", True, None)
    assert shown["givenUntil"] == until.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert (limits["games"], limits["memoryMib"], limits["devs"]) == (4, 8192, PLANS["starter"].devs)
    assert (await shop.world.call("POST", "/api/instances", token, GOOD_INSTANCE)).status == 202
    # Taken back, nothing is left but what is paid for.
    await shop.world.call("PUT", path, operator, {"plan": None, "reason": WHY})
    shown = await shop.status(token)
    assert (shown["status"], shown["plan"], shown["given"]) == (None, None, False)
    assert (await shop.world.call("POST", "/api/instances", token, GOOD_INSTANCE)).status == 402


async def test_what_is_given_counts_before_what_is_paid(shop: Shop) -> None:
    ada, token = await shop.customer()
    await shop.buy(token)
    _, operator = await shop.world.account("op", Role.OPERATOR)
    path = f"/api/operators/accounts/{ada.id}/plan"
    await shop.world.call("PUT", path, operator, {"plan": "studio", "reason": WHY})
    shown = await shop.status(token)
    assert (shown["plan"]["name"], shown["subscription"]["plan"]) == ("studio", "starter")
    await shop.world.call("PUT", path, operator, {"plan": None, "reason": WHY})
    assert (await shop.status(token))["plan"]["name"] == "starter"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"plan": "gold"}, 400),
        ({"plan": 7}, 400),
        ({"until": "2020-01-01T00:00:00Z"}, 400),
        ({"until": "2100-01-01T00:00:00"}, 400),
        ({"plan": None, "until": "2100-01-01T00:00:00Z"}, 400),
        # A limit that is misspelled would be none.
        ({"exceptions": {"gamse": 5}}, 400),
        ({"exceptions": {"games": -1}}, 400),
        ({"exceptions": {"games": "5"}}, 400),
        ({"reason": ""}, 400),
        ({"reason": None}, 400),
    ],
    ids=str,
)
async def test_what_cannot_be_given(shop: Shop, change: dict[str, Any], status: int) -> None:
    ada, token = await shop.customer()
    _, operator = await shop.world.account("op", Role.OPERATOR)
    body = {"plan": "starter", "reason": WHY} | change
    assert (await shop.world.call("PUT", f"/api/operators/accounts/{ada.id}/plan", operator, body)).status == status
    assert (await shop.status(token))["plan"] is None


async def test_nobody_is_given_nothing(shop: Shop) -> None:
    _, operator = await shop.world.account("op", Role.OPERATOR)
    body = {"plan": "starter", "reason": WHY}
    assert (await shop.world.call("PUT", "/api/operators/accounts/4711/plan", operator, body)).status == 404


async def reconciled(shop: Shop, operator: str, **wish: Any) -> Any:
    answer = await shop.world.call("POST", "/api/billing/reconcile", operator, wish)
    assert answer.status == 200, answer.raw
    billing_oversight.Compared.model_validate_json(answer.raw)
    return answer.json


async def invariants(shop: Shop, operator: str) -> Any:
    answer = await shop.world.call("GET", "/api/operators/billing/invariants", operator)
    assert answer.status == 200, answer.raw
    billing_oversight.Invariants.model_validate_json(answer.raw)
    return answer.json


async def test_what_no_webhook_told_is_found_by_comparing(shop: Shop) -> None:
    ada, token = await shop.customer()
    _, operator = await shop.world.account("op", Role.OPERATOR)
    # Green is what was seen to agree: nothing was compared yet.
    assert [one["kind"] for one in (await invariants(shop, operator))["findings"]] == ["not_compared"]
    assert (await reconciled(shop, operator, dryRun=False))["findings"] == []
    assert (await invariants(shop, operator))["green"] is True

    shop.pay(await shop.page(token))
    shown = await reconciled(shop, operator)
    (found,) = shown["findings"]
    assert (shown["dryRun"], found["kind"], found["accountId"]) == (True, "different_at_stripe", ada.id)
    # Unless it is told to, it changes nothing.
    assert (await shop.status(token))["status"] is None
    (found,) = (await reconciled(shop, operator, dryRun=False))["findings"]
    assert found["repair"] == "looked at, and written"
    assert (await shop.status(token))["status"] == "active"
    assert (await reconciled(shop, operator, dryRun=False))["findings"] == []
    assert (await invariants(shop, operator))["green"] is True


async def test_comparing_without_an_answer_says_so_and_suspends_nobody(shop: Shop) -> None:
    _, token = await shop.customer()
    await shop.buy(token)
    _, operator = await shop.world.account("op", Role.OPERATOR)
    shop.stripe.cause(FaultName.DOWN)
    shown = await reconciled(shop, operator, dryRun=False)
    assert (shown["error"] is not None, shown["findings"] and shown["findings"][0]["kind"]) == (True, "not_compared")
    assert (await shop.status(token))["status"] == "active"


async def test_the_record_says_who_did_what(shop: Shop) -> None:
    ada, token = await shop.customer()
    _, operator = await shop.world.account("op", Role.OPERATOR)
    await shop.buy(token)
    await shop.world.call(
        "PUT", f"/api/operators/accounts/{ada.id}/plan", operator, {"plan": "studio", "reason": WHY}
    )
    await reconciled(shop, operator)
    entries = (await shop.world.call("GET", "/api/audit?limit=200", operator)).json["audit"]
    details = {entry["action"]: entry["details"] for entry in reversed(entries)}
    assert details["billing.checkout"] == {"plan": "starter"}
    assert (details["account.plan"]["plan"], details["account.plan"]["reason"]) == ("studio", WHY)
    assert details["billing.reconcile"] == {"dry_run": True}
    assert details["billing.webhook"]["replayed"] is False
    assert SECRET not in str(entries)
