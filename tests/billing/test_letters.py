from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.sale import DAY, NOW, PLANS, a_subscription, an_account
from zlh.billing.letters import Side, letters
from zlh.model.billing import Subscription, SubscriptionStatus
from zlh.store.outbox import Letter

PORTAL = "https://portal.example/billing"


def side(subscription: Subscription | None = None, **account: Any) -> Side:
    plain = an_account(**account)
    return Side(plain, subscription, PLANS.get(plain.plan or ""))


NOTHING = side(plan=None, billing_status=None)
PAID = side(a_subscription())
OWING = side(a_subscription("past_due"), billing_status="past_due", suspends_at=NOW + 7 * DAY)
SUSPENDED = side(a_subscription("past_due"), billing_status="past_due", billing_suspended_at=NOW)
ENDED = side(a_subscription("canceled"), plan=None, billing_status="canceled")
ENDED_WITH_SERVERS = side(a_subscription("canceled"), plan=None, billing_status="canceled", billing_suspended_at=NOW)
GIVEN = side(granted_plan="starter")
RUN_OUT = side(granted_plan="starter", billing_status="past_due", suspends_at=NOW + 7 * DAY)
RUN_OUT_WITH_SERVERS = side(
    granted_plan="starter", plan=None, billing_status="inactive", billing_suspended_at=NOW + 7 * DAY
)


def told(before: Side, after: Side) -> list[Letter]:
    return letters(before, after, PORTAL)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (NOTHING, PAID, "subscription_begun"),
        (NOTHING, GIVEN, "subscription_begun"),
        (ENDED, PAID, "subscription_begun"),
        (PAID, side(a_subscription(plan="studio"), plan="studio"), "plan_changed"),
        (PAID, OWING, "payment_failed"),
        (OWING, PAID, "payment_received"),
        (OWING, SUSPENDED, "billing_suspended"),
        (SUSPENDED, PAID, "billing_resumed"),
        (PAID, ENDED_WITH_SERVERS, "billing_suspended"),
        (PAID, ENDED, "subscription_ended"),
        (OWING, ENDED, "subscription_ended"),
        (SUSPENDED, ENDED_WITH_SERVERS, "subscription_ended"),
        (ENDED_WITH_SERVERS, PAID, "billing_resumed"),
        (ENDED_WITH_SERVERS, GIVEN, "billing_resumed"),
        (GIVEN, RUN_OUT, "plan_ending"),
        (RUN_OUT, RUN_OUT_WITH_SERVERS, "billing_suspended"),
        (RUN_OUT, PAID, "payment_received"),
        (RUN_OUT, GIVEN, "subscription_begun"),
        (RUN_OUT_WITH_SERVERS, PAID, "billing_resumed"),
    ],
)
def test_each_turn_is_told_by_one_letter(before: Side, after: Side, kind: str) -> None:
    (letter,) = told(before, after)
    assert letter.kind == kind
    assert letter.recipient == after.account.email
    assert letter.text.startswith("Hello customer1,\n\n")


@pytest.mark.parametrize("same", [NOTHING, PAID, OWING, SUSPENDED, ENDED, ENDED_WITH_SERVERS, GIVEN, RUN_OUT])
def test_where_nothing_turned_nothing_is_told(same: Side) -> None:
    assert told(same, same) == []


def test_a_new_period_is_not_told() -> None:
    assert told(PAID, side(a_subscription(period_start=NOW, period_end=NOW + 30 * DAY, looked_at=NOW))) == []


def test_an_end_that_was_chosen_is_told_once_and_so_is_that_it_was_taken_back() -> None:
    ending = side(a_subscription(cancel_at=NOW + 20 * DAY))
    (chosen,) = told(PAID, ending)
    assert chosen.kind == "cancellation_noted"
    assert "2026-03-21 at 12:00 UTC" in chosen.text
    assert told(ending, ending) == []
    (taken_back,) = told(ending, PAID)
    assert taken_back.kind == "cancellation_withdrawn"


def test_a_subscription_that_takes_the_place_of_one_that_was_ending_takes_nothing_back() -> None:
    ending = side(a_subscription(cancel_at=NOW))
    assert [letter.kind for letter in told(ending, side(a_subscription(id="sub_2")))] == []


def test_only_a_payment_is_thanked_for() -> None:
    for before, after in ((SUSPENDED, PAID), (OWING, PAID)):
        assert "Thank you: your payment for Starter" in told(before, after)[0].text
    for before in (SUSPENDED, RUN_OUT_WITH_SERVERS):
        assert "Thank you" not in told(before, GIVEN)[0].text


def test_a_plan_that_was_given_and_is_over_speaks_of_no_payment_that_failed() -> None:
    (letter,) = told(GIVEN, RUN_OUT)
    assert "failed" not in letter.subject + letter.text
    assert "collect" not in letter.text
    assert PORTAL in letter.text


def test_who_is_suspended_is_told_that_data_is_kept_and_where_to_pay() -> None:
    (letter,) = told(OWING, SUSPENDED)
    assert "still download" in letter.text
    assert PORTAL in letter.text


moments = st.none() | st.just(NOW + DAY)
sides = st.builds(
    lambda status, subscription, plan, suspended, suspends, granted, cancel_at: side(
        None if subscription is None else a_subscription(subscription, cancel_at=cancel_at),
        plan=plan,
        billing_status=status,
        billing_suspended_at=suspended,
        suspends_at=suspends,
        granted_plan=granted,
    ),
    st.sampled_from([None, "active", "inactive", "past_due", "canceled"]),
    st.none() | st.sampled_from([status.value for status in SubscriptionStatus]),
    st.sampled_from([None, *PLANS, "plan_of_nobody"]),
    moments,
    moments,
    st.sampled_from([None, "starter"]),
    moments,
)


@given(sides, sides)
def test_no_turn_is_told_twice_and_every_letter_has_one_address_at_most(before: Side, after: Side) -> None:
    found = told(before, after)
    kinds = [letter.kind for letter in found]
    assert len(kinds) == len(set(kinds)) <= 2
    assert len([kind for kind in kinds if not kind.startswith("cancellation_")]) <= 1
    for letter in found:
        assert "\n" not in letter.subject
        assert letter.text.count("http") == letter.text.count(PORTAL) <= 1
        assert "None" not in letter.subject + letter.text


@given(sides)
def test_whatever_is_known_what_stays_is_not_told(same: Side) -> None:
    later: datetime = NOW + 30 * DAY
    moved = replace(
        same, subscription=None if same.subscription is None else replace(same.subscription, looked_at=later)
    )
    assert told(same, moved) == []
