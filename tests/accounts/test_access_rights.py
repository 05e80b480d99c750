"""Permissions at containers against a plain model; operators in a customer's place, and owing a second factor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.accounts.test_access import ADA, AT, BOB, LIFETIME, OPERATOR, Ends, make
from tests.accounts.visits import enter_console
from zlh.accounts import AccessTable, Keyring, Tokens, make_key
from zlh.accounts.grants import AccessGrant
from zlh.model.access import EVERYTHING, SHAREABLE, Permission, Sight, with_implied
from zlh.model.accounts import Account, Acting, Principal, Role
from zlh.model.errors import AbsentError, ForbiddenError, UnauthenticatedError
from zlh.store.keys import SigningKey

VMIDS = (5001, 5002, 5003)
PEOPLE = (1, 2, 4)
KEY = SigningKey(*make_key(), AT, AT)

Change = tuple[str, int, object]
owners = st.tuples(st.just("owner"), st.sampled_from(VMIDS), st.sampled_from((None, *PEOPLE)))
given_shares = st.dictionaries(st.sampled_from(PEOPLE), st.frozensets(st.sampled_from(SHAREABLE), min_size=1))
shares = st.tuples(st.just("shares"), st.sampled_from(VMIDS), given_shares)


@dataclass
class Model:
    """What should be so: looked up anew each time, with nothing kept that could be forgotten."""

    owners: dict[int, int] = field(default_factory=dict)
    shares: dict[int, Mapping[int, frozenset[Permission]]] = field(default_factory=dict)

    def change(self, change: Change) -> None:
        kind, vmid, what = change
        if kind == "shares":
            assert isinstance(what, dict)
            self.shares[vmid] = what
        elif isinstance(what, int):
            self.owners[vmid] = what
        else:
            self.owners.pop(vmid, None)
            self.shares.pop(vmid, None)

    def held(self, account_id: int, vmid: int) -> frozenset[Permission]:
        if vmid not in self.owners:
            return frozenset()
        if account_id == self.owners[vmid]:
            return EVERYTHING
        permissions = self.shares.get(vmid, {}).get(account_id)
        return with_implied(permissions) if permissions else frozenset()


def table_of_people() -> tuple[AccessTable, dict[int, Principal]]:
    tokens = Tokens(
        Keyring([KEY], alive_seconds=660, now=lambda: 0.0), issuer="t", lifetime_seconds=600, now=lambda: 0.0
    )
    table = AccessTable(tokens, now=lambda: 0.0)
    accounts = [Account(number, f"{number}@x.y", f"{number}", "", Role.CUSTOMER, AT) for number in PEOPLE]
    table.load(accounts, [])
    return table, {number: table.principal(tokens.issue(number, f"s{number}")) for number in PEOPLE}


@given(st.lists(owners | shares, max_size=30))
def test_permissions_are_those_of_the_model(changes: list[Change]) -> None:
    table, people = table_of_people()
    model = Model()
    for change in changes:
        kind, vmid, what = change
        if kind == "owner":
            table.owner_changed(vmid, what)  # type: ignore[arg-type] # by its kind
        else:
            table.shares_changed(vmid, what)  # type: ignore[arg-type] # by its kind
        model.change(change)
        for number, principal in people.items():
            for each in VMIDS:
                held = model.held(number, each)
                assert table.permissions(principal, each) == held
                assert table.may_see(principal, each) is bool(held)
                for permission in Permission:
                    assert allowed(table, principal, each, permission) is (permission in held)


def allowed(table: AccessTable, principal: Principal, vmid: int, permission: Permission) -> bool:
    try:
        table.check(principal, vmid, permission)
    except (AbsentError, ForbiddenError):
        return False
    return True


@given(st.lists(owners | shares, max_size=30))
def test_what_is_open_ends_with_the_permission_and_not_before(changes: list[Change]) -> None:
    table, people = table_of_people()
    model = Model()
    for vmid in VMIDS:
        table.owner_changed(vmid, 1)
        model.change(("owner", vmid, 1))
        everything = {number: frozenset(SHAREABLE) for number in PEOPLE if number != 1}
        table.shares_changed(vmid, everything)
        model.change(("shares", vmid, everything))
    grants: dict[tuple[int, int, Permission], AccessGrant] = {}
    ended: set[tuple[int, int, Permission]] = set()
    for number, principal in people.items():
        for vmid in VMIDS:
            for permission in SHAREABLE:
                name = (number, vmid, permission)
                grants[name] = table.stay(principal, vmid, permission)
                grants[name].on_end(lambda code, reason, name=name: ended.add(name))  # type: ignore[misc] # a default
    lost: set[tuple[int, int, Permission]] = set()
    for change in changes:
        kind, vmid, what = change
        if kind == "owner":
            table.owner_changed(vmid, what)  # type: ignore[arg-type] # by its kind
        else:
            table.shares_changed(vmid, what)  # type: ignore[arg-type] # by its kind
        model.change(change)
        lost |= {name for name in grants if name[2] not in model.held(*name[:2])}
        assert ended == lost
        for name in grants.keys() - lost:
            assert grants[name].may_type is (Permission.CONSOLE in model.held(*name[:2]))


@given(given_shares)
def test_sight_is_what_may_be_seen(shared: dict[int, frozenset[Permission]]) -> None:
    table, people = table_of_people()
    table.owner_changed(5001, 1)
    table.shares_changed(5001, shared)
    for number, principal in people.items():
        seen = {5001: with_implied(shared[number])} if number in shared else {}
        assert table.sight(principal) == Sight(number, seen)


ENDINGS = {
    "operator demoted": replace(OPERATOR, role=Role.CUSTOMER),
    "operator suspended": replace(OPERATOR, suspended_at=AT),
    "operator disabled": replace(OPERATOR, disabled_at=AT),
    "customer disabled": replace(ADA, disabled_at=AT),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_acting_ends_with_either_account(autojump_clock: trio.testing.MockClock, ending: str) -> None:
    table, tokens = make()
    token = tokens.issue(ADA.id, "acting", Acting(OPERATOR.id, read_only=False))
    own, ends, stays = tokens.issue(ADA.id, "own"), Ends(), Ends()
    table.stay(table.principal(token)).on_end(ends)
    table.stay(table.principal(own)).on_end(stays)
    table.account_changed(ENDINGS[ending])
    with pytest.raises(UnauthenticatedError):
        table.principal(token)
    assert len(ends.seen) == 1
    assert bool(stays.seen) is ending.startswith("customer")


async def test_acting_is_the_customers_right_and_no_more(autojump_clock: trio.testing.MockClock) -> None:
    table, tokens = make()
    for read_only in (True, False):
        token = tokens.issue(ADA.id, f"acting-{read_only}", Acting(OPERATOR.id, read_only))
        principal = table.principal(token)
        assert (principal.account_id, principal.actor_id, principal.role) == (ADA.id, OPERATOR.id, Role.CUSTOMER)
        assert [table.may_see(principal, vmid) for vmid in (5001, 5002)] == [True, False]
        assert enter_console(table, token, 5001).may_type is not read_only
        table.account_changed(ADA)
        assert enter_console(table, token, 5001).may_type is not read_only
    # A customer's token that says that it acts: no customer acts.
    with pytest.raises(UnauthenticatedError):
        table.principal(tokens.issue(ADA.id, "x", Acting(BOB.id, read_only=True)))


async def test_who_owes_a_second_factor_is_a_customer(autojump_clock: trio.testing.MockClock) -> None:
    tokens = Tokens(
        Keyring([KEY], alive_seconds=660, now=trio.current_time),
        issuer="t",
        lifetime_seconds=LIFETIME,
        now=trio.current_time,
    )
    table = AccessTable(tokens, now=trio.current_time, operators_need_second_factor=True)
    table.load([ADA, OPERATOR], [])
    table.owner_changed(5001, ADA.id)
    token = tokens.issue(OPERATOR.id, "o")
    owing = table.principal(token)
    assert (owing.role, owing.second_factor_owed, table.may_see(owing, 5001)) == (Role.CUSTOMER, True, False)
    assert not table.principal(tokens.issue(ADA.id, "a")).second_factor_owed
    with pytest.raises(UnauthenticatedError):
        table.principal(tokens.issue(ADA.id, "x", Acting(OPERATOR.id, read_only=True)))
    ends = Ends()
    table.stay(owing).on_end(ends)
    table.account_changed(replace(OPERATOR, second_factor_at=datetime(2026, 1, 2, tzinfo=UTC)))
    # What it was shown was a customer's view.
    assert [seen[0] for seen in ends.seen] == [4401]
    paid = table.principal(token)
    assert (paid.role, paid.second_factor_owed, table.may_see(paid, 5001)) == (Role.OPERATOR, False, True)
    console = Ends()
    enter_console(table, token, 5001).on_end(console)
    table.account_changed(OPERATOR)
    assert [seen[0] for seen in console.seen] == [4404]
