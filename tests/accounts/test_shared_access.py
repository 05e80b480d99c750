"""What the access table makes of shares, for requests and for what is open."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio.testing

from tests.accounts.test_access import ADA, AT, Ends, make
from tests.accounts.visits import enter_console
from zlh.model.access import Permission, Sight, with_implied


async def test_sight_and_what_is_heard_of_shares(autojump_clock: trio.testing.MockClock) -> None:
    table, tokens = make()
    bob, operator = table.principal(tokens.issue(2, "b")), table.principal(tokens.issue(3, "o"))
    power = with_implied({Permission.POWER})
    heard: list[object] = []
    with table.shared.hearing(2, heard.append):
        table.shares_changed(5001, {2: {Permission.POWER}})
        seen = table.sight(bob)
        assert seen == Sight(2, {5001: power})
        table.shares_changed(5001, {2: {Permission.POWER}, 4: {Permission.POWER}})
        table.shares_changed(5003, {2: {Permission.FILES}})
        assert seen == Sight(2, {5001: power}), "who looks holds what it saw"
        table.owner_changed(5001, None)
        table.shares_changed(5003, {})
    table.shares_changed(5003, {2: {Permission.POWER}})
    files = with_implied({Permission.FILES})
    assert heard == [{5001: power}, {5001: power, 5003: files}, {5003: files}, {}]
    assert table.sight(operator) == Sight(None)
    assert (table.shared._hearing, table.shared.vmids()) == ({}, {5003})


@pytest.mark.parametrize("narrowed", [frozenset({Permission.WATCH}), frozenset({Permission.POWER}), frozenset()])
async def test_a_narrowed_share_reaches_an_open_console(
    autojump_clock: trio.testing.MockClock, narrowed: frozenset[Permission]
) -> None:
    table, tokens = make()
    table.shares_changed(5001, {2: {Permission.CONSOLE}})
    grant, ends = enter_console(table, tokens.issue(2, "b"), 5001), Ends()
    grant.on_end(ends)
    assert grant.may_type
    table.shares_changed(5001, {2: narrowed} if narrowed else {})
    assert not grant.may_type
    expected = {"watch": [], "power": [4403], "": [4404]}["".join(narrowed)]
    assert [code for code, _ in ends.seen] == expected


async def test_a_vmid_that_is_used_again_is_shared_with_nobody(autojump_clock: trio.testing.MockClock) -> None:
    table, tokens = make()
    bob = table.principal(tokens.issue(2, "b"))
    table.shares_changed(5001, {2: {Permission.POWER}})
    assert table.may_see(bob, 5001)
    table.owner_changed(5001, None)
    table.owner_changed(5001, 1)
    assert not table.may_see(bob, 5001)
    assert table.sight(bob) == Sight(2)


@pytest.mark.parametrize("trouble", ["suspended_at", "disabled_at"])
async def test_what_an_owner_in_trouble_shares_is_only_seen(
    autojump_clock: trio.testing.MockClock, trouble: str
) -> None:
    table, tokens = make()
    bob, ends = table.principal(tokens.issue(2, "b")), Ends()
    table.shares_changed(5001, {2: {Permission.CONSOLE, Permission.POWER}})
    whole = table.permissions(bob, 5001)
    enter_console(table, tokens.issue(2, "b"), 5001).on_end(ends)
    table.account_changed(replace(ADA, **{trouble: AT}))  # type: ignore[arg-type]
    assert table.permissions(bob, 5001) == {Permission.VIEW}
    assert [code for code, _ in ends.seen] == [4403]
    table.shares_changed(5001, {2: {Permission.CONSOLE, Permission.POWER}, 3: {Permission.FILES}})
    assert table.permissions(bob, 5001) == {Permission.VIEW}
    table.account_changed(ADA)
    assert table.permissions(bob, 5001) == whole
