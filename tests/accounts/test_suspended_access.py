"""What a suspension leaves in memory: who may still be where, and who hears of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio.testing

from tests.accounts.test_access import ADA, AT, BOB, OPERATOR, Ends, make
from zlh.accounts import AccessTable
from zlh.accounts.grants import AccessGrant
from zlh.model.access import Permission, Scope
from zlh.model.accounts import Acting, Role
from zlh.model.errors import ForbiddenError, UnauthenticatedError


def fetch(table: AccessTable, token: str, vmid: int = 5001) -> AccessGrant:
    return table.enter(token, vmid, Permission.FILES, Scope.FILES, changes=False, suspended=True)


def bring(table: AccessTable, token: str, vmid: int = 5001) -> AccessGrant:
    return table.enter(token, vmid, Permission.FILES, Scope.FILES, changes=True)


async def test_what_is_being_fetched_goes_on_and_all_else_ends(autojump_clock: trio.testing.MockClock) -> None:
    table, tokens = make()
    token = tokens.issue(1, "a")
    goes_on, watches, ends = Ends(), Ends(), Ends()
    fetch(table, token).on_end(goes_on)
    table.stay(table.principal(token), suspended=True).on_end(watches)
    bring(table, token).on_end(ends)
    table.account_changed(replace(ADA, suspended_at=AT))
    assert [code for code, _ in ends.seen] == [4403]
    assert goes_on.seen == watches.seen == []
    fetch(table, token).on_end(goes_on)
    with pytest.raises(ForbiddenError):
        bring(table, token)
    with pytest.raises(ForbiddenError):
        table.stay(table.principal(token))
    table.account_changed(replace(ADA, disabled_at=AT))
    assert [code for code, _ in goes_on.seen] == [4401, 4401]
    assert [code for code, _ in watches.seen] == [4401]


async def test_a_suspended_operator_has_no_more_than_a_customer(autojump_clock: trio.testing.MockClock) -> None:
    table, tokens = make()
    token = tokens.issue(3, "o")
    others, everything = Ends(), Ends()
    fetch(table, token).on_end(others)
    table.stay(table.principal(token), suspended=True).on_end(everything)
    table.account_changed(replace(OPERATOR, suspended_at=AT))
    assert [code for code, _ in others.seen] == [4404]
    assert [code for code, _ in everything.seen] == [4403]
    principal = table.principal(token)
    assert (principal.role, principal.second_factor_owed) == (Role.CUSTOMER, False)
    assert not table.may_see(principal, 5001)
    table.account_changed(OPERATOR)
    assert table.principal(token).role is Role.OPERATOR


async def test_an_operator_in_a_suspended_customers_place(autojump_clock: trio.testing.MockClock) -> None:
    table, tokens = make()
    token = tokens.issue(1, "acting", Acting(OPERATOR.id, read_only=True))
    table.account_changed(replace(ADA, suspended_at=AT))
    ends = Ends()
    fetch(table, token).on_end(ends)
    with pytest.raises(ForbiddenError):
        bring(table, token)
    table.account_changed(replace(OPERATOR, suspended_at=AT))
    assert [code for code, _ in ends.seen] == [4403]
    with pytest.raises(UnauthenticatedError):
        table.principal(token)


async def test_a_suspended_friend_only_sees(autojump_clock: trio.testing.MockClock) -> None:
    table, tokens = make()
    token, ends = tokens.issue(2, "b"), Ends()
    table.shares_changed(5001, {2: {Permission.FILES}})
    fetch(table, token).on_end(ends)
    table.account_changed(replace(BOB, suspended_at=AT))
    assert [code for code, _ in ends.seen] == [4403]
    principal = table.principal(token)
    assert table.permissions(principal, 5001) == {Permission.VIEW}
    assert table.sight(principal).shared == {5001: {Permission.VIEW}}
    table.shares_changed(5001, {2: {Permission.FILES, Permission.POWER}})
    assert table.permissions(principal, 5001) == {Permission.VIEW}
    table.account_changed(BOB)
    assert table.permissions(principal, 5001) == {Permission.VIEW, Permission.FILES, Permission.POWER}


async def test_who_wants_to_hears_of_every_turn_once() -> None:
    table, _ = make()
    heard: list[int] = []
    table.on_suspension(heard.append)
    for account in (ADA, replace(ADA, suspended_at=AT), replace(ADA, suspended_at=AT, username="other"), ADA, ADA):
        table.account_changed(account)
    assert heard == [1, 1]
    table.account_changed(replace(ADA, id=9))
    assert heard == [1, 1, 9]


async def test_of_a_stranger_nothing_is_known() -> None:
    table, _ = make()
    table.account_changed(replace(BOB, suspended_at=AT))
    assert [table.account_suspended(number) for number in (1, 2, 99)] == [False, True, None]
