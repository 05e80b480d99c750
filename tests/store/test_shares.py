"""Shares: by address, for whoever verifies it; they live and move with their container."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

import pytest
import sqlalchemy as sa

from tests.store.samples import NOW, VMIDS, add_account, reserve
from zlh.model.access import SHAREABLE, Permission
from zlh.model.accounts import Account
from zlh.model.errors import AbsentError, ConflictError, InvalidError, PlanLimitError
from zlh.model.operations import Operation, OperationState
from zlh.store import containers, operations, shares
from zlh.store.shares import MOST_SHARES, Share
from zlh.store.tables import accounts

POWER, CONSOLE, FILES = Permission.POWER, Permission.CONSOLE, Permission.FILES


def verified(connection: sa.Connection, name: str) -> Account:
    account = add_account(connection, name)
    verify(connection, account.id)
    return account


def verify(connection: sa.Connection, account_id: int) -> None:
    connection.execute(sa.update(accounts).where(accounts.c.id == account_id).values(email_verified_at=NOW))


def give(
    connection: sa.Connection,
    vmid: int,
    given_by: Account,
    email: str = "bob@example.com",
    permissions: Collection[Permission] = (POWER,),
) -> Share:
    return shares.give(connection, vmid, email=email, permissions=permissions, given_by=given_by.id, now=NOW)


@pytest.fixture
def ada(connection: sa.Connection) -> Account:
    return verified(connection, "ada")


@pytest.fixture
def vmid(connection: sa.Connection, ada: Account) -> int:
    return reserve(connection, ada.id)[0].vmid


def test_given_to_an_account_that_is_there(connection: sa.Connection, ada: Account, vmid: int) -> None:
    bob = verified(connection, "bob")
    share = give(connection, vmid, ada, " BOB@Example.com ", [FILES, POWER, POWER])
    assert share == Share(share.id, vmid, "BOB@Example.com", frozenset({POWER, FILES}), "ada", NOW)
    assert shares.of_container(connection, vmid) == [share]
    assert shares.held(connection, vmid) == {bob.id: {POWER, FILES}}
    assert shares.all_held(connection) == {vmid: {bob.id: {POWER, FILES}}}
    mine = shares.received(connection, bob.id)
    assert [(one.id, one.vmid, one.name, one.owner) for one in mine] == [(share.id, vmid, "My Server", "ada")]


def test_an_address_that_is_not_verified_has_nothing_until_it_is(
    connection: sa.Connection, ada: Account, vmid: int
) -> None:
    bob = add_account(connection, "bob")
    other = reserve(connection, ada.id)[0].vmid
    for one in (vmid, other):
        give(connection, one, ada, "BOB@example.com")
    assert shares.all_held(connection) == {}
    assert shares.received(connection, bob.id) == []
    verify(connection, bob.id)
    assert shares.bind(connection, bob) == [vmid, other]
    assert shares.bind(connection, bob) == []
    assert shares.all_held(connection) == {vmid: {bob.id: {POWER}}, other: {bob.id: {POWER}}}


def test_an_account_that_begins_with_a_verified_address_has_it_at_once(
    connection: sa.Connection, ada: Account, vmid: int
) -> None:
    give(connection, vmid, ada)
    bob = add_account(connection, "bob", email_verified_at=NOW)
    assert shares.held(connection, vmid) == {bob.id: {POWER}}


def test_an_owner_is_bound_to_nothing_of_their_own(connection: sa.Connection, ada: Account, vmid: int) -> None:
    give(connection, vmid, ada, "ada@elsewhere.example")
    moved = sa.update(accounts).where(accounts.c.id == ada.id).values(email="ada@elsewhere.example")
    connection.execute(moved.values(email_key="ada@elsewhere.example"))
    assert shares.bind(connection, replace(ada, email="ada@elsewhere.example")) == []


def test_two_addresses_of_one_account_add_up(connection: sa.Connection, ada: Account, vmid: int) -> None:
    bob = verified(connection, "bob")
    give(connection, vmid, ada, permissions=[POWER])
    connection.execute(sa.update(accounts).where(accounts.c.id == bob.id).values(email_key="bob@new.example"))
    second = give(connection, vmid, ada, "bob@new.example", [FILES])
    assert shares.held(connection, vmid) == {bob.id: {POWER, FILES}}
    shares.withdraw(connection, vmid, second.id)
    assert shares.held(connection, vmid) == {bob.id: {POWER}}


def test_one_address_once(connection: sa.Connection, ada: Account, vmid: int) -> None:
    give(connection, vmid, ada)
    for spelling in ("bob@example.com", "BOB@EXAMPLE.COM", "\uff42ob@example.com"):
        with pytest.raises(ConflictError) as refused:
            give(connection, vmid, ada, spelling)
        assert refused.value.code == "already_shared"


def test_not_with_the_owner_nor_with_oneself(connection: sa.Connection, ada: Account, vmid: int) -> None:
    operator = add_account(connection, "op")
    for giver, email in ((ada, "ADA@example.com"), (operator, "ada@example.com"), (operator, "op@example.com")):
        with pytest.raises(InvalidError) as refused:
            give(connection, vmid, giver, email)
        assert refused.value.code == "own_address"
    assert shares.of_container(connection, vmid) == []


def test_a_container_has_so_many_shares_at_most(connection: sa.Connection, ada: Account, vmid: int) -> None:
    for number in range(MOST_SHARES):
        give(connection, vmid, ada, f"guest{number}@example.com")
    with pytest.raises(ConflictError) as refused:
        give(connection, vmid, ada)
    assert refused.value.code == "too_many_shares"


def test_change_and_withdraw(connection: sa.Connection, ada: Account, vmid: int) -> None:
    bob = verified(connection, "bob")
    share = give(connection, vmid, ada)
    changed = shares.change(connection, vmid, share.id, SHAREABLE)
    assert changed.permissions == frozenset(SHAREABLE)
    assert shares.held(connection, vmid) == {bob.id: frozenset(SHAREABLE)}
    assert shares.withdraw(connection, vmid, share.id) == changed
    assert shares.held(connection, vmid) == {}
    for again in (
        lambda: shares.withdraw(connection, vmid, share.id),
        lambda: shares.change(connection, vmid, share.id, [POWER]),
    ):
        with pytest.raises(AbsentError):
            again()


def test_a_share_is_found_at_its_own_container_only(connection: sa.Connection, ada: Account, vmid: int) -> None:
    share = give(connection, vmid, ada)
    other = reserve(connection, ada.id)[0].vmid
    for wrong in (other, 5999):
        with pytest.raises(AbsentError):
            shares.change(connection, wrong, share.id, [FILES])
        with pytest.raises(AbsentError):
            shares.withdraw(connection, wrong, share.id)
    assert shares.of_container(connection, vmid) == [share]


def test_who_was_given_it_may_leave_and_nobody_else(connection: sa.Connection, ada: Account, vmid: int) -> None:
    bob, eve = verified(connection, "bob"), verified(connection, "eve")
    share = give(connection, vmid, ada)
    for stranger in (eve, ada):
        with pytest.raises(AbsentError):
            shares.leave(connection, stranger.id, share.id)
    assert shares.leave(connection, bob.id, share.id) == vmid
    assert shares.of_container(connection, vmid) == []


def test_a_container_takes_its_shares_with_it(connection: sa.Connection, ada: Account, vmid: int) -> None:
    bob = verified(connection, "bob")
    share = give(connection, vmid, ada)
    containers.delete(connection, vmid)
    assert shares.of_container(connection, vmid) == []
    assert shares.received(connection, bob.id) == []
    with pytest.raises(AbsentError):
        shares.leave(connection, bob.id, share.id)
    with pytest.raises(AbsentError):
        give(connection, vmid, ada)


def test_shares_follow_a_container_to_another_vmid(connection: sa.Connection, ada: Account, vmid: int) -> None:
    bob = verified(connection, "bob")
    share = give(connection, vmid, ada)
    moved = containers.renumber(connection, vmid, vmids=VMIDS, now=NOW)[0].vmid
    assert moved != vmid
    assert shares.all_held(connection) == {moved: {bob.id: {POWER}}}
    assert [one.id for one in shares.of_container(connection, moved)] == [share.id]


def test_what_is_shared_counts_for_its_owner_only(connection: sa.Connection, ada: Account) -> None:
    bob = verified(connection, "bob")
    for _ in range(3):
        give(connection, reserve(connection, ada.id)[0].vmid, ada)
    assert containers.usage(connection, bob.id).games == 0
    for _ in range(3):
        reserve(connection, bob.id)
    with pytest.raises(PlanLimitError):
        reserve(connection, bob.id)


def test_operations_of_what_is_shared_and_not_of_a_former_container(connection: sa.Connection, ada: Account) -> None:
    bob = verified(connection, "bob")

    def settled(operation: Operation) -> Operation:
        return operations.set_state(connection, operation.id, OperationState.SUCCEEDED, NOW)

    def seen(*shared: int) -> set[str]:
        return {one.id for one in operations.page(connection, owner_id=bob.id, shared=shared)}

    _, own = reserve(connection, bob.id)
    row, former = reserve(connection, ada.id)
    other, _ = reserve(connection, ada.id)
    settled(former)
    containers.delete(connection, row.vmid)
    only_vmid = range(row.vmid, row.vmid + 1)
    later = NOW + timedelta(days=1)
    again, present = reserve(connection, ada.id, vmids=only_vmid, now=later)
    assert again.vmid == row.vmid
    assert seen() == {own.id}
    assert seen(row.vmid, 5999) == {own.id, present.id}
    page = operations.page(connection, owner_id=bob.id, shared=[row.vmid], vmid=other.vmid)
    assert page == []


def test_a_share_and_the_verification_of_its_address_do_not_miss_each_other(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        ada, bob = verified(connection, "ada"), add_account(connection, "bob")
        vmid = reserve(connection, ada.id)[0].vmid

    def giving(start: Barrier) -> None:
        with engine.begin() as connection:
            start.wait()
            give(connection, vmid, ada)

    def verifying(start: Barrier) -> None:
        with engine.begin() as connection:
            start.wait()
            verify(connection, bob.id)
            shares.bind(connection, bob)

    with ThreadPoolExecutor(2) as threads:
        for _ in range(20):
            start = Barrier(2)
            for work in [threads.submit(giving, start), threads.submit(verifying, start)]:
                work.result(timeout=20)
            with engine.begin() as connection:
                assert shares.held(connection, vmid) == {bob.id: {POWER}}
                shares.withdraw(connection, vmid, shares.of_container(connection, vmid)[0].id)
                connection.execute(sa.update(accounts).values(email_verified_at=None))


def test_two_who_give_the_same_share_get_one(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        ada = verified(connection, "ada")
        vmid = reserve(connection, ada.id)[0].vmid

    def giving(_: int) -> str:
        with engine.begin() as connection:
            try:
                return give(connection, vmid, ada).email
            except ConflictError as refused:
                return refused.code

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(giving, range(8))) == ["already_shared"] * 7 + ["bob@example.com"]
