from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.billing.till import PLANS, Till
from zlh.billing.grants import LONGEST_REASON
from zlh.model.accounts import Account
from zlh.model.errors import AbsentError, InvalidError
from zlh.model.plans import plan_of
from zlh.simulators.stripe import Card


async def give(till: Till, account: Account, plan: str | None, **more: Any) -> Account:
    return await till.billing.grants.give(
        account.id, **({"plan": plan, "until": None, "because": "a friend", "exceptions": {}} | more)
    )


async def test_a_plan_that_is_given_is_there_at_once(till: Till) -> None:
    ada = await give(till, await till.account("ada"), "studio")
    assert (ada.plan, ada.billing_status, ada.granted_because) == ("studio", "active", "a friend")
    assert till.told == [ada]
    assert [(act.action, act.subject_id, act.details) for act in till.acts] == [
        ("billing.plan", ada.id, {"plan": "studio"})
    ]
    assert await till.letters() == ["subscription_begun"]
    assert not till.stripe.calls


async def test_a_plan_that_is_not_for_sale_can_be_given(till: Till) -> None:
    assert (await give(till, await till.account("ada"), "unlimited")).plan == "unlimited"


async def test_exceptions_change_the_limits_of_one_customer_alone(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    ada = await give(till, ada, None, exceptions={"games": 7, "backups": 0})
    plan = plan_of(ada, PLANS)
    assert plan is not None
    assert (plan.name, plan.games, plan.backups, plan.devs) == ("starter", 7, 0, PLANS["starter"].devs)
    # In the place of what was given before.
    ada = await give(till, ada, None, exceptions={"devs": 3})
    assert ada.plan_exceptions == {"devs": 3}


async def test_what_is_given_counts_before_what_is_paid_and_taken_back_leaves_that(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    ada = await give(till, ada, "studio")
    assert ada.plan == "studio"
    ada = await give(till, ada, None)
    assert (ada.plan, ada.billing_status, ada.granted_plan) == ("starter", "active", None)


async def test_who_is_suspended_and_is_given_a_plan_is_resumed(till: Till) -> None:
    ada = await till.buy(await till.account("ada"))
    await till.container(ada)
    (one,) = await till.subscriptions(ada)
    till.stripe.set_card(one.customer_id, Card.DECLINED)
    await till.pass_time(days=40)
    assert (await till.again(ada)).suspended_at is not None
    ada = await give(till, ada, "starter")
    assert (ada.plan, ada.billing_status, ada.suspended_at) == ("starter", "active", None)
    assert [act.action for act in till.acts][-1] == "billing.resumed"
    # Taken back: as before.
    ada = await give(till, ada, None)
    assert ada.suspended_at is not None


async def test_a_plan_that_is_taken_back_from_who_pays_nothing_leaves_nothing(till: Till) -> None:
    ada = await till.account("ada", plan="starter")
    assert ada.granted_plan == "starter"
    ada = await give(till, ada, None)
    assert (ada.plan, ada.billing_status, ada.suspended_at) == (None, None, None)


async def test_who_was_given_a_plan_can_buy_one_before_it_ends_and_keeps_it(till: Till) -> None:
    ada = await give(till, await till.account("ada"), "studio", until=till.now() + timedelta(days=5))
    ada = await till.buy(ada, "standard")
    assert ada.plan == "studio"
    await till.pass_time(days=6)
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status) == ("standard", "active")
    assert "plan_ending" not in await till.letters()


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"plan": "gold"}, "plan"),
        ({"plan": "studio", "until": timedelta(0)}, "until"),
        ({"plan": "studio", "until": timedelta(days=-1)}, "until"),
        ({"plan": None, "until": timedelta(days=1)}, "until"),
        ({"plan": None, "exceptions": {"friends": 1}}, "exceptions"),
        ({"plan": None, "exceptions": {"name": 1}}, "exceptions"),
    ],
)
async def test_what_cannot_be_given_is_named_and_nothing_changes(
    till: Till, wish: dict[str, Any], field: str
) -> None:
    ada = await till.account("ada")
    if isinstance(wish.get("until"), timedelta):
        wish = wish | {"until": till.now() + wish["until"]}
    with pytest.raises(InvalidError) as invalid:
        await give(till, ada, **wish)
    assert field in str(invalid.value.details)
    assert await till.again(ada) == ada


async def test_nobody_is_given_nothing(till: Till) -> None:
    with pytest.raises(AbsentError):
        await till.billing.grants.give(999, plan="studio", until=None, because="", exceptions={})


async def test_a_long_reason_is_cut(till: Till) -> None:
    ada = await give(till, await till.account("ada"), "studio", because="x" * 1000)
    assert len(ada.granted_because) == LONGEST_REASON
