from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.billing.sale import DAY, NOW, PLANS, a_subscription, an_account
from zlh.billing.invariants import Books, Finding, Kind, Machine, findings
from zlh.model.accounts import Role
from zlh.model.billing import Dispute
from zlh.model.billing_orders import Order, OrderKind, OrderState
from zlh.model.containers import Container, ContainerType, Desired, Lifecycle, Power, Resources, Software
from zlh.store.billing_customers import KnownCustomer

LONG_AGO = NOW - DAY


def a_machine(
    vmid: int = 5000, owner_id: int = 1, power: Power = Power.ON, *, memory_mib: int = 1024, **desired: Any
) -> Machine:
    row = Container(
        vmid=vmid,
        owner_id=owner_id,
        ctype=ContainerType.GAME,
        name=f"server {vmid}",
        hostname=f"server-{vmid}",
        software=Software("minecraft", "1.21"),
        resources=Resources(memory_mib=memory_mib, cpu_cores=1, disk_gib=10),
        ports=(),
        agent_token="x",
        created_at=LONG_AGO,
        updated_at=LONG_AGO,
        desired=Desired(**desired),
    )
    return Machine(row, power)


def books(**changes: Any) -> Books:
    """Of one customer, who pays for what runs, on a good day."""
    plain = Books(
        accounts={1: an_account()},
        customers={"cus_1": KnownCustomer("cus_1", 1, NOW, None)},
        subscriptions=[a_subscription()],
        machines=[a_machine()],
        plans=PLANS,
        disputes=[],
        orders=[],
        inbox_oldest=None,
        inbox_error=None,
        compared_at=NOW - timedelta(hours=20),
        selling=True,
        now=NOW,
    )
    return replace(plain, **changes)


def unpaid(**changes: Any) -> dict[str, Any]:
    """Of a customer whose grace ended ten days ago, and who is suspended for it."""
    ends = NOW - 10 * DAY
    owing = a_subscription("past_due", unpaid_since=ends - 7 * DAY, looked_at=LONG_AGO)
    account = an_account(billing_status="past_due", billing_suspended_at=ends, suspended_at=ends)
    stopped = a_machine(power=Power.OFF, suspended=True)
    return {"accounts": {1: account}, "subscriptions": [owing], "machines": [stopped], **changes}


def an_order(**changes: Any) -> Order:
    plain = Order("or-1", 1, OrderKind.SWITCH, OrderState.OPEN, LONG_AGO, LONG_AGO, LONG_AGO, error="Stripe is away")
    return replace(plain, **changes)


def a_dispute(**changes: Any) -> Dispute:
    return replace(Dispute("du_1", "cus_1", 900, "eur", "needs_response", "fraudulent", LONG_AGO), **changes)


def found(**changes: Any) -> list[Kind]:
    return [finding.kind for finding in findings(books(**changes))]


def only(**changes: Any) -> Finding:
    (finding,) = findings(books(**changes))
    return finding


@pytest.mark.parametrize(
    "well",
    [
        {},
        {"machines": []},
        {"accounts": {}, "customers": {}, "subscriptions": [], "machines": []},
        {"selling": False, "compared_at": None},
        unpaid(),
        # Who has nothing is not suspended, and makes nothing.
        unpaid(machines=[], accounts={1: an_account(plan=None, billing_status="past_due")}),
        # Its data is being fetched.
        unpaid(machines=[a_machine(suspended=True, retrieval_until=NOW + timedelta(minutes=1))]),
        # The account was suspended by operators, whatever it pays.
        {"accounts": {1: an_account(suspended_at=LONG_AGO)}, "machines": [a_machine(suspended=True)]},
        # Staff have no plans.
        {
            "accounts": {1: an_account(role=Role.ADMIN, plan=None, billing_status=None)},
            "customers": {},
            "subscriptions": [],
        },
        {"subscriptions": [a_subscription(), a_subscription("canceled", id="sub_0", ended_at=NOW - 90 * DAY)]},
        {"orders": [an_order(created_at=NOW - timedelta(minutes=1))]},
        {"inbox_oldest": NOW - timedelta(minutes=1)},
        {"disputes": [a_dispute(status="won"), a_dispute(status="lost"), a_dispute(status="warning_closed")]},
        # A former price costs what it did.
        {
            "plans": {**PLANS, "starter": replace(PLANS["starter"], former_prices=("price_old",))},
            "subscriptions": [a_subscription(price_id="price_old", amount=700)],
        },
        {
            "customers": {"cus_1": KnownCustomer("cus_1", None, NOW, None)},
            "accounts": {},
            "machines": [],
            "subscriptions": [a_subscription("canceled", ended_at=LONG_AGO)],
        },
    ],
    ids=str,
)
def test_where_money_and_machines_agree_nothing_is_found(well: dict[str, Any]) -> None:
    assert found(**well) == []


def test_who_pays_and_is_suspended() -> None:
    stopped = a_machine(power=Power.OFF, suspended=True)
    finding = only(machines=[stopped], subscriptions=[a_subscription(looked_at=LONG_AGO)])
    assert (finding.kind, finding.account_id, finding.vmid) == (Kind.PAID_BUT_SUSPENDED, 1, 5000)


def test_who_does_not_pay_and_runs() -> None:
    finding = only(**unpaid(machines=[a_machine(suspended=True)]))
    assert (finding.kind, finding.account_id, finding.vmid) == (Kind.UNPAID_BUT_RUNNING, 1, 5000)


@pytest.mark.parametrize("power", [Power.OFF, Power.UNKNOWN])
def test_a_container_that_is_not_seen_to_run_is_not_said_to(power: Power) -> None:
    assert found(**unpaid(machines=[a_machine(power=power, suspended=True)])) == []


def test_a_fetch_of_data_that_is_over_is_no_excuse() -> None:
    over = a_machine(suspended=True, retrieval_until=NOW - timedelta(minutes=6))
    assert found(**unpaid(machines=[over])) == [Kind.UNPAID_BUT_RUNNING]
    just_over = a_machine(suspended=True, retrieval_until=NOW - timedelta(minutes=1))
    assert found(**unpaid(machines=[just_over])) == []


def test_what_has_just_turned_has_a_while_to_follow() -> None:
    ends = NOW - timedelta(minutes=1)
    owing = a_subscription("past_due", unpaid_since=ends - 7 * DAY)
    account = an_account(billing_status="past_due", billing_suspended_at=ends, suspended_at=ends)
    assert found(accounts={1: account}, subscriptions=[owing], machines=[a_machine()]) == []
    later = books(accounts={1: account}, subscriptions=[owing], now=NOW + timedelta(minutes=6))
    assert [finding.kind for finding in findings(later)] == [Kind.UNPAID_BUT_RUNNING]


def test_a_payment_that_was_just_seen_has_a_while_to_follow() -> None:
    stopped = a_machine(power=Power.OFF, suspended=True)
    seen = a_subscription(looked_at=NOW - timedelta(minutes=1))
    assert found(machines=[stopped], subscriptions=[seen]) == []


def test_a_grace_whose_end_was_seen_late_has_a_while_to_follow() -> None:
    """Stripe could not be asked for days."""
    changes = unpaid(machines=[a_machine()])
    (owing,) = changes["subscriptions"]
    assert found(**changes) == [Kind.UNPAID_BUT_RUNNING]
    just_seen = replace(owing, looked_at=NOW - timedelta(minutes=1))
    assert found(**(changes | {"subscriptions": [just_seen]})) == []


def test_two_subscriptions() -> None:
    finding = only(subscriptions=[a_subscription(), a_subscription("past_due", id="sub_2", created_at=LONG_AGO)])
    assert (finding.kind, finding.account_id) == (Kind.TWO_SUBSCRIPTIONS, 1)
    assert "sub_1, sub_2" in finding.detail


def test_a_disabled_account_that_goes_on_paying() -> None:
    account = replace(books().accounts[1], disabled_at=LONG_AGO)
    assert only(accounts={1: account}).kind is Kind.DISABLED_BUT_PAYING
    assert found(accounts={1: account}, subscriptions=[replace(a_subscription(), cancel_at=NOW)]) == []


@pytest.mark.parametrize("customers", [{}, {"cus_9": KnownCustomer("cus_9", None, NOW, None)}])
def test_who_pays_and_has_no_account(customers: dict[str, KnownCustomer]) -> None:
    stranger = a_subscription(id="sub_9", customer_id="cus_9")
    mine = books().customers
    finding = only(subscriptions=[a_subscription(), stranger], customers={**mine, **customers})
    assert (finding.kind, finding.customer_id, finding.subscription_id) == (Kind.UNKNOWN_CUSTOMER, "cus_9", "sub_9")


def test_a_container_without_an_account() -> None:
    finding = only(machines=[a_machine(), a_machine(5001, owner_id=99)])
    assert (finding.kind, finding.vmid) == (Kind.NO_ACCOUNT, 5001)


def test_a_container_of_an_account_without_a_plan() -> None:
    nothing = {"accounts": {1: an_account(plan=None, billing_status=None)}, "customers": {}, "subscriptions": []}
    assert found(**nothing) == [Kind.NO_PLAN]


def test_more_than_the_plan_allows() -> None:
    finding = only(machines=[a_machine(memory_mib=8192)])
    assert finding.kind is Kind.OVER_LIMIT
    assert "8192 MiB of memory of 6144" in finding.detail
    exception = {1: an_account(plan_exceptions={"memory_mib": 8192})}
    assert found(machines=[a_machine(memory_mib=8192)], accounts=exception) == []
    leaving = a_machine(5001, memory_mib=8192, lifecycle=Lifecycle.ABSENT)
    assert found(machines=[a_machine(), leaving]) == []


def test_a_price_that_no_plan_has() -> None:
    account = an_account(plan=None)
    kinds = found(subscriptions=[a_subscription(price_id="price_of_nobody")], accounts={1: account}, machines=[])
    assert kinds == [Kind.UNKNOWN_PRICE]


@pytest.mark.parametrize("changes", [{"amount": 1}, {"currency": "usd"}])
def test_a_price_that_is_not_what_is_shown(changes: dict[str, Any]) -> None:
    assert found(subscriptions=[a_subscription(**changes)]) == [Kind.WRONG_AMOUNT]


@pytest.mark.parametrize(
    "account",
    [
        {"plan": "studio"},
        {"billing_status": "past_due"},
        {"billing_suspended_at": LONG_AGO, "suspended_at": LONG_AGO},
        {"suspends_at": NOW + DAY},
    ],
)
def test_what_is_written_and_does_not_follow(account: dict[str, Any]) -> None:
    assert found(accounts={1: an_account(**account)}) == [Kind.STANDING_IS_OLD]


def test_events_and_orders_that_wait() -> None:
    finding = only(inbox_oldest=NOW - timedelta(minutes=11), inbox_error="Stripe is away")
    assert (finding.kind, "Stripe is away" in finding.detail) == (Kind.INBOX_WAITS, True)
    finding = only(orders=[an_order()])
    assert (finding.kind, finding.account_id) == (Kind.ORDER_WAITS, 1)


@pytest.mark.parametrize("compared_at", [None, NOW - timedelta(hours=50)])
def test_nothing_was_compared_for_two_nights(compared_at: Any) -> None:
    assert found(compared_at=compared_at) == [Kind.NOT_COMPARED]


def test_a_dispute_is_for_people() -> None:
    finding = only(disputes=[a_dispute()])
    assert (finding.kind, finding.kind.proposal, finding.account_id) == (Kind.DISPUTED, True, 1)


def test_after_the_retention_teardown_is_proposed_and_not_before() -> None:
    for days, kinds in ((29, []), (31, [Kind.TEARDOWN_DUE])):
        ended = NOW - days * DAY
        account = an_account(plan=None, billing_status="canceled", billing_suspended_at=ended, suspended_at=ended)
        over = a_subscription("canceled", ended_at=ended)
        stopped = a_machine(power=Power.OFF, suspended=True)
        assert found(accounts={1: account}, subscriptions=[over], machines=[stopped]) == kinds
    assert Kind.TEARDOWN_DUE.proposal


def test_a_finding_can_be_told_as_json() -> None:
    finding = only(disputes=[a_dispute()])
    assert finding.as_dict()["kind"] == "payment_disputed"
    assert finding.as_dict()["repair"]
