"""What takes long with thousands of customers, and must not hold up everybody else."""

from __future__ import annotations

import threading

import pytest

from tests.billing.test_looks import subscribe_there
from tests.billing.till import Till
from zlh.billing import reconciler
from zlh.billing.invariants import Books, Finding, findings


async def test_judging_is_no_work_of_the_thread_that_serves_everybody(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def watched(books: Books) -> list[Finding]:
        threads.append(threading.get_ident())
        return findings(books)

    monkeypatch.setattr(reconciler, "findings", watched)
    await till.billing.reconciler.reconcile("nightly")
    await till.billing.reconciler.judged()
    assert threads
    assert threading.get_ident() not in threads


async def test_lists_are_read_in_small_pages_and_whole(till: Till) -> None:
    customer = till.stripe.account.customers.make({"email": "many@example.com"}, {})
    till.stripe.account.cards.enter(customer)
    made = {subscribe_there(till, customer["id"]) for _ in range(60)}
    till.stripe.calls.clear()
    listed = [one.id async for one in till.driver.all_subscriptions(till.now())]
    assert (set(listed), len(listed)) == (made, 60)
    assert till.stripe.calls["GET /v1/subscriptions"] == 3
