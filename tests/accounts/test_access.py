from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import trio
import trio.testing

from tests.accounts.visits import enter_console
from zlh.accounts import AccessTable, Keyring, Tokens, make_key
from zlh.accounts.signer import CLOCK_SKEW_SECONDS
from zlh.model.accounts import Account, Role
from zlh.model.errors import AbsentError, ForbiddenError, UnauthenticatedError
from zlh.store.keys import SigningKey

AT = datetime(2026, 1, 1, tzinfo=UTC)
LIFETIME = 600
ADA = Account(1, "ada@example.com", "ada", "", Role.CUSTOMER, AT)
BOB = Account(2, "bob@example.com", "bob", "", Role.CUSTOMER, AT)
OPERATOR = Account(3, "op@example.com", "op", "", Role.OPERATOR, AT)


class Ends:
    def __init__(self) -> None:
        self.seen: list[tuple[int, str]] = []

    def __call__(self, code: int, reason: str) -> None:
        self.seen.append((code, reason))


def make() -> tuple[AccessTable, Tokens]:
    key = SigningKey(*make_key(), AT, AT)
    tokens = Tokens(
        Keyring([key], alive_seconds=660, now=trio.current_time),
        issuer="t",
        lifetime_seconds=LIFETIME,
        now=trio.current_time,
    )
    table = AccessTable(tokens, now=trio.current_time)
    table.load([ADA, BOB, OPERATOR], ["revoked-before"])
    table.owner_changed(5001, 1)
    table.owner_changed(5002, 2)
    return table, tokens


async def test_principals_and_what_they_see(autojump_clock: trio.testing.MockClock) -> None:
    table, tokens = make()
    ada = table.principal(tokens.issue(1, "a"))
    operator = table.principal(tokens.issue(3, "o"))
    assert (ada.account_id, ada.role) == (1, Role.CUSTOMER)
    assert [table.may_see(ada, vmid) for vmid in (5001, 5002, 9)] == [True, False, False]
    assert [table.may_see(operator, vmid) for vmid in (5001, 5002, 9)] == [True, True, False]
    for token in (tokens.issue(99, "x"), tokens.issue(1, "revoked-before")):
        with pytest.raises(UnauthenticatedError):
            table.principal(token)


async def test_a_revoked_session_is_out_at_once_and_remembered_no_longer_than_needed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    table, tokens = make()
    token, other = tokens.issue(1, "a"), tokens.issue(1, "b")
    table.principal(token)
    table.session_revoked("a")
    with pytest.raises(UnauthenticatedError):
        table.principal(token)
    assert table.principal(other).session_id == "b"
    await trio.sleep(LIFETIME + CLOCK_SKEW_SECONDS + 2)
    table.session_revoked("c")
    assert list(table._revoked) == ["c"]


async def test_a_token_of_a_process_whose_clock_is_ahead_does_not_outlive_its_revocation(
    autojump_clock: trio.testing.MockClock,
) -> None:
    table, tokens = make()
    ahead = Tokens(tokens.signer.keyring, issuer="t", lifetime_seconds=LIFETIME, now=lambda: trio.current_time() + 50)
    token = ahead.issue(1, "a")
    table.principal(token)
    table.session_revoked("a")
    await trio.sleep(LIFETIME + 10)
    table.session_revoked("another")
    with pytest.raises(UnauthenticatedError) as caught:
        table.principal(token)
    assert caught.value.code == "signed_out"


async def test_many_sessions_end_quickly_though_many_tokens_and_grants_are_about(
    autojump_clock: trio.testing.MockClock,
) -> None:
    table, tokens = make()
    for number in range(2000):
        table.stay(table.principal(tokens.issue(2, f"other{number}")))
    began = time.process_time()
    for number in range(5000):
        table.session_revoked(f"a{number}")
    # Looking at every token and grant each time would take seconds.
    assert time.process_time() - began < 0.5
    assert table.open_grants() == 2000


@pytest.mark.parametrize(
    ("event", "code"),
    [("logout", 4401), ("suspension", 4403), ("deletion", 4404), ("given away", 4404), ("expiry", 4401)],
)
async def test_grants_end_at_once(autojump_clock: trio.testing.MockClock, event: str, code: int) -> None:
    table, tokens = make()
    stays = Ends()
    grant = enter_console(table, tokens.issue(1, "a"), 5001)
    bobs = enter_console(table, tokens.issue(2, "b"), 5002)
    ends = Ends()
    grant.on_end(ends)
    bobs.on_end(stays)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        await trio.testing.wait_all_tasks_blocked()
        if event == "logout":
            table.session_revoked("a")
        elif event == "suspension":
            table.account_changed(replace(ADA, suspended_at=AT))
        elif event == "deletion":
            table.owner_changed(5001, None)
        elif event == "given away":
            table.owner_changed(5001, 2)
        else:
            await trio.sleep_until(grant.expires_at - 1)
            assert ends.seen == []
            await trio.sleep(2)
        assert [seen[0] for seen in ends.seen] == [code]
        assert stays.seen == [] or event == "expiry"
        nursery.cancel_scope.cancel()
    late = Ends()
    grant.on_end(late)
    assert len(late.seen) == 1


async def test_a_released_grant_is_quiet_and_costs_nothing(autojump_clock: trio.testing.MockClock) -> None:
    table, tokens = make()
    token = tokens.issue(1, "a")
    for _ in range(1000):
        grant = enter_console(table, token, 5001)
        ends = Ends()
        grant.on_end(ends)
        grant.release()
        grant.release()
    table.session_revoked("a")
    assert ends.seen == []
    assert table.open_grants() == 0
    assert len(table._grants._expiry) <= 70


async def test_an_earlier_expiry_wakes_the_timer(autojump_clock: trio.testing.MockClock) -> None:
    table, tokens = make()
    early = tokens.issue(1, "a")
    await trio.sleep(300)
    first, second = Ends(), Ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        enter_console(table, tokens.issue(1, "late"), 5001).on_end(first)
        await trio.testing.wait_all_tasks_blocked()
        enter_console(table, early, 5001).on_end(second)
        await trio.sleep(301)
        assert (len(first.seen), len(second.seen)) == (0, 1)
        nursery.cancel_scope.cancel()


async def test_consoles_refuse_strangers_others_and_the_suspended(autojump_clock: trio.testing.MockClock) -> None:
    table, tokens = make()
    with pytest.raises(UnauthenticatedError):
        enter_console(table, "nonsense", 5001)
    with pytest.raises(AbsentError):
        enter_console(table, tokens.issue(2, "b"), 5001)
    with pytest.raises(AbsentError):
        enter_console(table, tokens.issue(3, "o"), 4)
    table.account_changed(replace(ADA, suspended_at=AT))
    with pytest.raises(ForbiddenError):
        enter_console(table, tokens.issue(1, "a"), 5001)


async def test_an_operator_who_becomes_a_customer_leaves_others_consoles(
    autojump_clock: trio.testing.MockClock,
) -> None:
    table, tokens = make()
    ends = Ends()
    enter_console(table, tokens.issue(3, "o"), 5001).on_end(ends)
    table.account_changed(replace(OPERATOR, role=Role.CUSTOMER))
    assert [code for code, _ in ends.seen] == [4404]
