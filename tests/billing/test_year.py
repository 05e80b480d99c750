from __future__ import annotations

from datetime import timedelta

from tests.billing.till import Till
from zlh.billing.invariants import findings
from zlh.model.billing_orders import OrderState
from zlh.simulators.stripe import Card


async def green(till: Till) -> bool:
    """Whether money and machines agree."""
    return findings(await till.billing.reconciler.books()) == []


async def test_a_year_of_a_customer(till: Till) -> None:
    """Subscribe, upgrade, a payment that fails, grace, suspension, pay, resume, cancel: each is seen here as it
    happens there, and nobody is charged twice."""
    ada = await till.account("ada")
    await till.billing.reconciler.reconcile("nightly")

    # March: a page is opened, and only a payment makes it more than that.
    page = await till.open_page(ada, "starter")
    assert (await till.again(ada)).plan is None
    till.stripe.pay(page)
    await till.deliver()
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status) == ("starter", "active")
    server = await till.container(ada)
    assert await green(till)

    # Three months pass, and are paid for.
    await till.pass_time(days=93)
    assert [invoice["amount_paid"] for invoice in till.stripe.of("invoice")] == [900] * 4
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status, ada.suspended_at) == ("starter", "active", None)

    # A larger plan, for what its preview said.
    forecast = await till.desk.forecast(ada, "standard")
    order = await till.desk.switch(ada, "standard", at=forecast.preview.at, due_now=forecast.preview.due_now)
    assert order.state is OrderState.DONE
    ada = await till.again(ada)
    assert ada.plan == "standard"
    assert till.stripe.of("invoice")[-1]["amount_paid"] == forecast.preview.due_now
    await till.deliver()
    await till.billing.reconciler.reconcile("nightly")
    assert await green(till)

    # The card does not work any more.
    (subscription,) = await till.subscriptions(ada)
    till.stripe.set_card(subscription.customer_id, Card.DECLINED)
    left = subscription.period_end - till.now() + timedelta(hours=2)
    await till.pass_time(seconds=left.total_seconds())
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status, ada.suspended_at) == ("standard", "past_due", None)
    assert ada.suspends_at == subscription.period_end + timedelta(days=7)

    # The grace passes.
    await till.pass_time(days=6)
    assert (await till.again(ada)).suspended_at is None
    await till.pass_time(days=1.5)
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status) == ("standard", "past_due")
    assert ada.suspended_at == subscription.period_end + timedelta(days=7)
    assert till.told[-1].billing_suspended_at is not None

    # Paid again: as before.
    till.stripe.fix_card(subscription.customer_id)
    await till.deliver()
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status, ada.suspended_at, ada.suspends_at) == ("standard", "active", None, None)
    await till.billing.reconciler.reconcile("nightly")
    assert await green(till)

    # Two more months, then the end.
    await till.pass_time(days=62)
    await till.desk.cancel(ada)
    (subscription,) = await till.subscriptions(ada)
    assert subscription.cancel_at == subscription.period_end
    await till.pass_time(days=32)
    ada = await till.again(ada)
    assert (ada.plan, ada.billing_status) == (None, "canceled")
    assert ada.suspended_at == subscription.period_end

    # Who is gone for long is proposed to be torn down, and never more than that.
    await till.pass_time(days=40)
    report = await till.billing.reconciler.reconcile("nightly")
    assert {finding["kind"] for finding in report.findings} >= {"teardown_due"}
    assert till.rows == [server]

    charged = [invoice for invoice in till.stripe.of("invoice") if invoice["status"] == "paid"]
    months = [
        invoice for invoice in charged if invoice["billing_reason"] in ("subscription_create", "subscription_cycle")
    ]
    assert len({invoice["lines"]["data"][-1]["period"]["start"] for invoice in months}) == len(months)
    assert len(till.stripe.of("subscription")) == 1
    assert await till.letters() == [
        "subscription_begun",
        "plan_changed",
        "payment_failed",
        "billing_suspended",
        "billing_resumed",
        "cancellation_noted",
        "billing_suspended",
    ]
