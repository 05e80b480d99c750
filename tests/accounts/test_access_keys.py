"""What the access table makes of API keys, for requests and for what is open."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
import trio
import trio.testing

from tests.accounts.test_access import ADA, AT, BOB, OPERATOR, Ends, make
from tests.accounts.visits import enter_console
from zlh.accounts import AccessTable, KeyStanding, require_scope
from zlh.accounts.access import key_hash
from zlh.model.access import Permission, Scope
from zlh.model.accounts import Account, Role
from zlh.model.errors import AbsentError, ForbiddenError, ProblemError, UnauthenticatedError

KEY = "zlh_the-key"
ALL = frozenset(Scope)


def give(
    table: AccessTable,
    account: Account = ADA,
    scopes: frozenset[Scope] = ALL,
    expires_at: float = inf,
    token: str = KEY,
) -> KeyStanding:
    standing = KeyStanding(f"id of {token}", account.id, scopes, expires_at)
    table.key_changed(key_hash(token), standing)
    return standing


def code(table: AccessTable, token: str = KEY) -> str:
    with pytest.raises(ProblemError) as caught:
        table.principal(token)
    assert isinstance(caught.value, UnauthenticatedError)
    return caught.value.code


async def test_a_key_is_its_account_within_its_scopes(autojump_clock: trio.testing.MockClock) -> None:
    table, _ = make()
    key = give(table, scopes=frozenset({Scope.FILES}))
    principal = table.principal(KEY)
    assert (principal.account_id, principal.role, principal.scopes) == (ADA.id, Role.CUSTOMER, {Scope.FILES})
    assert principal.session_id == f"key:{key.id}"
    assert [table.may_see(principal, vmid) for vmid in (5001, 5002)] == [True, False]
    require_scope(principal, Scope.FILES)
    for scope in (*(ALL - {Scope.FILES}), None):
        with pytest.raises(ForbiddenError) as caught:
            require_scope(principal, scope)
        assert caught.value.code == "scope"


async def test_what_is_no_key(autojump_clock: trio.testing.MockClock) -> None:
    table, _ = make()
    give(table)
    for nonsense in (
        "zlh_",
        KEY[:-1],
        KEY + "x",
        KEY.upper().replace("ZLH_", "zlh_"),
        "zlh_\udcff",
        "zlh_" + "x" * 99999,
    ):
        assert code(table, nonsense) == "invalid_key"
    assert code(table, KEY.removeprefix("zlh_")) == "unauthenticated"
    assert code(table, key_hash(KEY)) == "unauthenticated"


async def test_a_key_ends_when_it_expires_and_so_does_what_is_open_with_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    table, _ = make()
    now = trio.current_time()
    give(table, expires_at=now + 100)
    give(table, token="zlh_for-ever")
    ends, stays = Ends(), Ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        enter_console(table, "zlh_for-ever", 5001).on_end(stays)
        enter_console(table, KEY, 5001).on_end(ends)
        await trio.sleep(99)
        assert table.principal(KEY)
        assert ends.seen == []
        await trio.sleep(1.5)
        assert code(table) == "key_expired"
        assert [seen[0] for seen in ends.seen] == [4401]
        await trio.sleep(10**9)
        assert stays.seen == []
        nursery.cancel_scope.cancel()


async def test_a_revoked_key_is_out_at_once(autojump_clock: trio.testing.MockClock) -> None:
    table, tokens = make()
    key = give(table)
    give(table, token="zlh_another")
    by_key, by_another, signed_in = Ends(), Ends(), Ends()
    for token, ends in ((KEY, by_key), ("zlh_another", by_another), (tokens.issue(1, "s"), signed_in)):
        table.stay(table.principal(token)).on_end(ends)
    table.key_revoked("somebody else's")
    table.key_revoked(key.id)
    table.key_revoked(key.id)
    assert code(table) == "invalid_key"
    assert [len(ends.seen) for ends in (by_key, by_another, signed_in)] == [1, 0, 0]
    assert table.key_ids() == {"id of zlh_another"}


async def test_what_ended_meanwhile_is_not_opened(autojump_clock: trio.testing.MockClock) -> None:
    """Between finding out who asks and opening what stays, a request may wait; and the right may end."""
    table, tokens = make()
    key = give(table)
    by_key, signed_in = table.principal(KEY), table.principal(tokens.issue(1, "s"))
    table.key_revoked(key.id)
    table.session_revoked("s")
    for principal in (by_key, signed_in):
        ends = Ends()
        table.stay(principal, 5001).on_end(ends)
        assert [seen[0] for seen in ends.seen] == [4401]
    bob, ends = table.principal(tokens.issue(2, "b")), Ends()
    table.owner_changed(5002, None)
    table.stay(bob, 5002).on_end(ends)
    assert [seen[0] for seen in ends.seen] == [4404]
    assert table.open_grants() == 0


async def test_an_account_that_is_stopped_stops_its_keys(autojump_clock: trio.testing.MockClock) -> None:
    table, _ = make()
    give(table)
    table.account_changed(replace(ADA, suspended_at=AT))
    assert table.suspended(table.principal(KEY))
    with pytest.raises(ForbiddenError):
        table.stay(table.principal(KEY))
    table.account_changed(replace(ADA, disabled_at=AT))
    assert code(table) == "signed_out"
    table.account_changed(ADA)
    assert table.principal(KEY).account_id == ADA.id


async def test_an_operators_key_is_one_by_its_scope_and_its_account(autojump_clock: trio.testing.MockClock) -> None:
    table, _ = make()
    give(table, OPERATOR)
    give(table, OPERATOR, ALL - {Scope.OPERATOR}, token="zlh_weak")
    weak = table.principal("zlh_weak")
    assert (table.principal(KEY).role, weak.role, weak.second_factor_owed) == (Role.OPERATOR, Role.CUSTOMER, False)
    assert not table.may_see(weak, 5001)
    with pytest.raises(AbsentError):
        enter_console(table, "zlh_weak", 5001)
    ends = Ends()
    enter_console(table, KEY, 5001).on_end(ends)
    table.account_changed(replace(OPERATOR, role=Role.CUSTOMER))
    assert table.principal(KEY).role is Role.CUSTOMER
    assert [seen[0] for seen in ends.seen] == [4404]


async def test_consoles_need_the_scope(autojump_clock: trio.testing.MockClock) -> None:
    table, _ = make()
    give(table, scopes=ALL - {Scope.CONSOLE})
    with pytest.raises(ForbiddenError) as caught:
        enter_console(table, KEY, 5001)
    assert caught.value.code == "scope"
    give(table, BOB, frozenset({Scope.CONSOLE}), token="zlh_bob")
    table.shares_changed(5001, {BOB.id: [Permission.WATCH]})
    assert not enter_console(table, "zlh_bob", 5001).may_type
    table.shares_changed(5001, {BOB.id: [Permission.CONSOLE]})
    assert enter_console(table, "zlh_bob", 5001).may_type


async def test_uses_are_told_with_the_address(autojump_clock: trio.testing.MockClock) -> None:
    table, tokens = make()
    key = give(table, expires_at=trio.current_time() + 10)
    used: list[tuple[str, str]] = []
    table.key_used = lambda key_id, address: used.append((key_id, address))
    table.principal(KEY, "192.0.2.1")
    table.principal(tokens.issue(1, "s"), "192.0.2.2")
    enter_console(table, KEY, 5001, "192.0.2.3")
    await trio.sleep(11)
    for refused in (KEY, "zlh_unknown"):
        code(table, refused)
    assert used == [(key.id, "192.0.2.1"), (key.id, "192.0.2.3")]
