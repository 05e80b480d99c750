"""Those who owe money, and what else they may have: nothing, a plan that was given, a new address."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.billing.sale import DAY, NOW, PLANS, a_subscription
from tests.billing.till import Till
from zlh.billing.entitlements import GRACE, RETENTION, entitlement
from zlh.model.billing import BillingStatus, Grant
from zlh.model.errors import UnavailableError
from zlh.simulators.stripe import Card, FaultName
from zlh.store import accounts


async def test_who_owes_for_longer_than_the_grace_and_has_no_container_can_make_none(till: Till) -> None:
    """Nothing is suspended there, and so nothing else would keep them from one."""
    ada = await till.buy(await till.account("ada"))
    (paid,) = await till.subscriptions(ada)
    till.stripe.set_card(paid.customer_id, Card.DECLINED)
    await till.pass_time(days=34)
    assert (await till.again(ada)).plan == "starter"
    await till.pass_time(days=6)
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status, ada.suspended_at) == (None, "past_due", None)
    till.stripe.fix_card(paid.customer_id)
    await till.deliver()
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status) == ("starter", "active")


@pytest.mark.parametrize("status", ["past_due", "unpaid"])
def test_a_debt_takes_nothing_of_the_grace_after_a_plan_that_was_given(status: str) -> None:
    """Nobody was told of it meanwhile, and nothing was wrong."""
    owing = a_subscription(status, unpaid_since=NOW - 60 * DAY, looked_at=NOW - DAY)
    grant = Grant("studio", NOW)
    grace = entitlement([owing], grant, PLANS, NOW)
    assert (grace.plan, grace.status) == ("starter", BillingStatus.PAST_DUE)
    assert (grace.suspends_at, grace.suspended_at) == (NOW + GRACE, None)
    # And Stripe is asked before it ends, as for everybody.
    late = entitlement([owing], grant, PLANS, NOW + GRACE)
    assert (late.suspended_at, late.look_at) == (None, NOW + GRACE)
    over = entitlement([replace(owing, looked_at=NOW + GRACE)], grant, PLANS, NOW + GRACE)
    assert (over.suspended_at, over.teardown_at) == (NOW + GRACE, NOW + GRACE + RETENTION)


def test_a_debt_of_after_a_plan_that_was_given_counts_from_its_own_beginning() -> None:
    owing = a_subscription("past_due", unpaid_since=NOW + 20 * DAY)
    found = entitlement([owing], Grant("studio", NOW), PLANS, NOW + 21 * DAY)
    assert found.suspends_at == NOW + 20 * DAY + GRACE


async def test_who_has_another_address_since_stripe_was_asked_for_a_customer_can_pay(till: Till) -> None:
    """Stripe refuses a key that comes with something else than before, for a whole day."""
    ada = await till.account("ada")
    till.stripe.cause(FaultName.LOST_ANSWER, times=3)
    with pytest.raises(UnavailableError):
        await till.desk.subscribe(ada, "starter")
    till.stripe.calm()
    await till.database.run(accounts.set_email, ada.id, "lovelace@example.com")
    ada = await till.buy(await till.again(ada))
    assert ada.plan == "starter"
    assert len(till.stripe.of("subscription")) == 1
