"""What customers do on Stripe's own pages is seen here, and can be taken back here."""

from __future__ import annotations

from tests.billing.till import open_till


async def test_an_end_that_was_chosen_on_stripes_page_is_taken_back_here(postgres_url: str) -> None:
    async with open_till(postgres_url) as till:
        ada = await till.buy(await till.account("ada"))
        (paid,) = await till.subscriptions(ada)
        till.stripe.cancel(paid.id)
        await till.deliver()
        (ending,) = await till.subscriptions(ada)
        assert ending.cancel_at == paid.period_end
        await till.desk.resume(ada)
        (present,) = await till.subscriptions(ada)
        assert present.cancel_at is None
        await till.pass_time(days=40)
        assert (await till.again(ada)).plan == "starter"
