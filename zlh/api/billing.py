"""/api/billing: what a customer sees of plans and payments, and orders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StringConstraints
from quart import Response

from zlh.api.answers import Answer
from zlh.api.bodies import Body, Query
from zlh.api.call import Call, json_response
from zlh.billing.desk import Desk
from zlh.billing.entitlements import best, entitlement
from zlh.billing.standings import grant_of
from zlh.model.accounts import Account
from zlh.model.billing import Preview, Subscription
from zlh.model.billing_orders import Order, OrderKind, OrderState
from zlh.model.errors import ConflictError
from zlh.model.plans import LIMITS, Plan, plan_of, plan_of_price
from zlh.model.servers import rfc3339_of
from zlh.store import reservations, subscriptions

PlanName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Checkout(Body):
    """Without a plan the cheapest one that is for sale."""

    plan: PlanName | None = None


class ChangePlan(Body):
    """`when` "now" needs `prorationDate` and `amountDue` of a preview that is not older than ten minutes; without
    `when`, a dearer plan is changed to now and a cheaper one at the end of the period."""

    plan: PlanName
    when: Literal["now", "period_end"] | None = None
    proration_date: AwareDatetime | None = None
    amount_due: Annotated[int | None, Field(ge=-(10**12), le=10**12)] = None


class PreviewQuery(Query):
    plan: PlanName


class Address(Answer):
    url: str


class PlanLimits(Answer):
    """All containers together; `backups` and `schedules` are of each of them."""

    games: int
    devs: int
    memory_mib: int
    cpu_cores: int
    disk_gib: int
    backups: int
    schedules: int


class PlanAnswer(Answer):
    """`price` is in minor units of `currency`, for a month."""

    name: str
    title: str
    price: int
    currency: str
    limits: PlanLimits


class Plans(Answer):
    plans: list[PlanAnswer]


class UsedAnswer(Answer):
    games: int
    devs: int
    memory_mib: int
    cpu_cores: int
    disk_gib: int


class SubscriptionAnswer(Answer):
    """`nextPlan` is what it becomes at `periodEnd`; at `endsAt` it is over."""

    status: str
    plan: str | None
    price: int
    currency: str
    period_start: str
    period_end: str
    ends_at: str | None
    next_plan: str | None


class BillingAnswer(Answer):
    """`status` is that of the contract's billing_status. `given`: by an operator, until `givenUntil`. `suspendsAt` is
    when the grace of a payment that is missing ends; from `teardownAt` on what is suspended may be removed."""

    selling: bool
    status: Literal["active", "inactive", "past_due", "canceled"] | None
    plan: PlanAnswer | None
    given: bool
    given_until: str | None
    subscription: SubscriptionAnswer | None
    suspends_at: str | None
    suspended_at: str | None
    teardown_at: str | None
    usage: UsedAnswer


class LineAnswer(Answer):
    text: str
    amount: int


class Exceeded(Answer):
    limit: str
    allowed: int
    wanted: int
    unit: str


class PreviewAnswer(Answer):
    """What a change of plan costs at the moment `prorationDate`: `amountDue` at once (negative: a credit for the next
    invoice), in minor units, made of `lines`. `exceeded` is what would have to be removed first."""

    plan: PlanAnswer
    from_plan: str | None
    currency: str
    amount_due: int
    lines: list[LineAnswer]
    proration_date: str
    period_end: str
    when: Literal["now", "period_end"]
    exceeded: list[Exceeded]


class OrderAnswer(Answer):
    id: str
    kind: OrderKind
    state: OrderState
    created_at: str
    updated_at: str
    error: str | None


class Ordered(Answer):
    order: OrderAnswer
    billing: BillingAnswer


async def plans(call: Call) -> Response:
    sold = [plan for plan in call.services.plans.values() if plan.for_sale]
    return json_response({"plans": [_plan(plan) for plan in sorted(sold, key=lambda plan: plan.price_cents)]})


async def status(call: Call) -> Response:
    return json_response(await _status(call, await _account(call)))


async def checkout(call: Call) -> Response:
    body: Checkout = call.body
    call.audit.details["plan"] = body.plan or ""
    return json_response({"url": await _desk(call).subscribe(await _account(call), body.plan)})


async def portal(call: Call) -> Response:
    return json_response({"url": await _desk(call).portal(await _account(call))})


async def preview(call: Call) -> Response:
    query: PreviewQuery = call.query
    forecast = await _desk(call).forecast(await _account(call), query.plan)
    return json_response(
        {
            "plan": _plan(forecast.plan),
            "fromPlan": forecast.present.name if forecast.present is not None else None,
            **_preview(forecast.preview),
            "periodEnd": rfc3339_of(forecast.period_end),
            "when": _when(forecast.plan, forecast.present),
            "exceeded": forecast.exceeded,
        }
    )


async def change_plan(call: Call) -> Response:
    body: ChangePlan = call.body
    call.audit.details["plan"] = body.plan
    account, desk = await _account(call), _desk(call)
    when = body.when or await _begins(call, account, body.plan)
    if when == "now":
        order = await desk.switch(account, body.plan, at=body.proration_date, due_now=body.amount_due)
    else:
        order = await desk.switch_later(account, body.plan)
    return await _ordered(call, order)


async def cancel(call: Call) -> Response:
    return await _carried(call, _desk(call).cancel)


async def resume(call: Call) -> Response:
    return await _carried(call, _desk(call).resume)


async def _carried(call: Call, act: Callable[[Account], Awaitable[Order]]) -> Response:
    return await _ordered(call, await act(await _account(call)))


async def _ordered(call: Call, order: Order) -> Response:
    call.audit.details["order"] = order.id
    shown = {
        "id": order.id,
        "kind": order.kind.value,
        "state": order.state.value,
        "createdAt": rfc3339_of(order.created_at),
        "updatedAt": rfc3339_of(order.updated_at),
        "error": order.error,
    }
    return json_response({"order": shown, "billing": await _status(call, await _account(call))})


def _desk(call: Call) -> Desk:
    desk = call.services.billing.desk
    if desk is None:
        raise ConflictError("nothing is sold here: ask the operators for a plan", code="not_selling")
    return desk


async def _account(call: Call) -> Account:
    return await call.services.accounts.account(call.principal.account_id)


async def _status(call: Call, account: Account) -> dict[str, Any]:
    services = call.services
    paid = await services.database.run(subscriptions.of_account, account.id)
    used = await services.database.run(reservations.usage, account.id)
    entitled = entitlement(paid, grant_of(account), services.plans, services.billing.now())
    plan, counted = plan_of(account, services.plans), best(paid)
    return {
        "selling": services.billing.desk is not None,
        "status": account.billing_status,
        "plan": _plan(plan) if plan is not None else None,
        "given": account.granted_plan is not None and account.granted_plan == account.plan,
        "givenUntil": rfc3339_of(account.granted_until),
        "subscription": _subscription(counted, services.plans) if counted is not None else None,
        "suspendsAt": rfc3339_of(account.suspends_at),
        "suspendedAt": rfc3339_of(account.billing_suspended_at),
        "teardownAt": rfc3339_of(entitled.teardown_at if account.billing_suspended_at is not None else None),
        "usage": {_camel(name): getattr(used, name) for name, _ in LIMITS},
    }


def _plan(plan: Plan) -> dict[str, Any]:
    limits = {_camel(name): getattr(plan, name) for name, _ in LIMITS}
    return {
        "name": plan.name,
        "title": plan.title or plan.name,
        "price": plan.price_cents,
        "currency": plan.currency,
        "limits": {**limits, "backups": plan.backups, "schedules": plan.schedules},
    }


def _subscription(paid: Subscription, plans: Any) -> dict[str, Any]:
    plan, following = plan_of_price(plans, paid.price_id), plan_of_price(plans, paid.next_price_id or "")
    return {
        "status": paid.status.value,
        "plan": plan.name if plan is not None else None,
        "price": paid.amount,
        "currency": paid.currency,
        "periodStart": rfc3339_of(paid.period_start),
        "periodEnd": rfc3339_of(paid.period_end),
        "endsAt": rfc3339_of(paid.ended_at or paid.cancel_at),
        "nextPlan": following.name if following is not None else None,
    }


def _preview(found: Preview) -> dict[str, Any]:
    return {
        "currency": found.currency,
        "amountDue": found.due_now,
        "lines": [{"text": line.text, "amount": line.amount} for line in found.lines],
        "prorationDate": rfc3339_of(found.at),
    }


async def _begins(call: Call, account: Account, wanted: str) -> Literal["now", "period_end"]:
    """When a change to the plan begins without a word of that, as its preview says: what is given is not asked."""
    plans = call.services.plans
    paid = best(await call.services.database.run(subscriptions.of_account, account.id))
    present = plan_of_price(plans, paid.price_id) if paid is not None else None
    return _when(plans[wanted], present) if wanted in plans else "now"


def _when(wanted: Plan, present: Plan | None) -> Literal["now", "period_end"]:
    """Who wants more gets it at once; who wants less has paid for this period already."""
    return "now" if present is None or wanted.price_cents >= present.price_cents else "period_end"


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
