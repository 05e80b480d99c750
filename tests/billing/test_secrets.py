"""What must not be written anywhere: Stripe's key, the secrets of webhooks, the addresses of pages."""

from __future__ import annotations

import logging

import pytest

from tests.billing.till import SECRETS, Till
from zlh.drivers.errors import DriverError
from zlh.model.errors import ProblemError
from zlh.simulators.stripe import KEY, Card, FaultName, Wrong


async def test_no_secret_is_in_a_log_a_letter_or_a_record(till: Till, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ada = await till.account("ada")
    page = await till.open_page(ada, "starter")
    (url,) = [one["url"] for one in till.stripe.of("checkout.session")]
    with pytest.raises(Wrong):
        till.stripe.pay(page, Card.DECLINED)
    till.stripe.pay(page)
    await till.deliver()
    portal = await till.desk.portal(ada)
    told = [repr(till.billing), repr(await till.subscriptions(ada))]
    for fault in (FaultName.GARBAGE, FaultName.REFUSING, FaultName.BROKEN):
        till.stripe.cause(fault)
        for attempt in (till.desk.portal(ada), till.desk.forecast(ada, "standard")):
            with pytest.raises(ProblemError) as caught:
                await attempt
            told += [repr(caught.value), str(caught.value), repr(caught.value.__cause__)]
            assert isinstance(caught.value.__cause__, DriverError)
        told.append(repr((await till.billing.reconciler.reconcile("asked")).error))
        till.stripe.calm()
    told += [repr(till.acts), caplog.text]
    for secret in (KEY, *SECRETS, url, portal):
        assert all(secret not in text for text in told), secret
