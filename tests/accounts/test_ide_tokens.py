"""IDE tokens: one minute, one use, one container, one user, and only while that user may."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf

import pytest
import trio

from zlh.accounts import (
    AccessTable,
    AccountServices,
    IdeTokens,
    KeyStanding,
    Passwords,
    Rules,
    TokenRules,
    open_accounts,
)
from zlh.accounts.ide_tokens import IDE
from zlh.model.access import Permission, Scope
from zlh.model.accounts import Account, Principal, Role
from zlh.model.errors import AbsentError, ForbiddenError, UnauthenticatedError
from zlh.store import Database, Vault, sessions

VMID = 6001
AT = datetime(2026, 1, 1, tzinfo=UTC)
FAR = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass
class World:
    database: Database
    people: AccountServices
    ada: Account
    token: str

    @property
    def access(self) -> AccessTable:
        return self.people.access

    @property
    def principal(self) -> Principal:
        return self.access.principal(self.token)

    def issue(self) -> str:
        return self.people.ide_tokens.issue(self.principal, VMID)

    async def sign_in(self, account: Account) -> tuple[str, str]:
        """(session, access token)"""
        session = await self.database.run(
            sessions.open_session, account.id, f"hash{account.id}", now=datetime.now(UTC), expires_at=FAR
        )
        return session.id, self.people.tokens.issue(account.id, session.id)


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    database = Database(postgres_url, pool_size=4)
    vault = Vault([Vault.new_key()])
    people = await open_accounts(database, vault, Passwords.cheap(), Rules(), TokenRules("test", 600))
    ada = await people.accounts.create(
        email="ada@example.com", username="ada", password="correct horse", role=Role.CUSTOMER, plan=None
    )
    people.access.owner_changed(VMID, ada.id)
    made = World(database, people, ada, "")
    made.token = (await made.sign_in(ada))[1]
    yield made
    await database.aclose()


async def refused(world: World, token: str, vmid: int = VMID) -> str:
    with pytest.raises(UnauthenticatedError) as caught:
        await world.people.ide_tokens.redeem(token, vmid)
    return caught.value.code


async def test_once_and_then_never_again(world: World) -> None:
    before = time.time()
    token = world.issue()
    principal = await world.people.ide_tokens.redeem(token, VMID)
    assert replace(principal, expires_at=0) == replace(world.principal, expires_at=0)
    assert before + 59 <= principal.expires_at <= time.time() + 60
    assert await refused(world, token) == "token_spent"
    # Another one of the same minute is another one.
    await world.people.ide_tokens.redeem(world.issue(), VMID)


async def test_once_across_processes_that_try_at_the_same_moment(world: World) -> None:
    token = world.issue()
    others = [IdeTokens(world.database, world.people.tokens.signer, world.access) for _ in range(6)]
    outcomes: list[bool] = []

    async def redeem(tokens: IdeTokens) -> None:
        try:
            await tokens.redeem(token, VMID)
        except UnauthenticatedError:
            outcomes.append(False)
        else:
            outcomes.append(True)

    async with trio.open_nursery() as nursery:
        for other in others:
            nursery.start_soon(redeem, other)
    assert sorted(outcomes) == [False] * 5 + [True]


async def test_for_one_container(world: World) -> None:
    world.access.owner_changed(VMID + 1, world.ada.id)
    token = world.issue()
    await refused(world, token, VMID + 1)
    # That was no use of it.
    await world.people.ide_tokens.redeem(token, VMID)


async def test_for_one_minute(world: World) -> None:
    token = world.issue()
    later = IdeTokens(world.database, world.people.tokens.signer, world.access)
    world.people.tokens.signer._now = lambda: time.time() + 60
    with pytest.raises(UnauthenticatedError) as caught:
        await later.redeem(token, VMID)
    assert caught.value.code == "token_expired"


async def test_not_after_signing_out_however_short_memory_is(world: World) -> None:
    """The access table forgets a revocation as soon as no access token is left; an IDE token may live longer."""
    token = world.issue()
    await world.database.run(sessions.revoke, world.principal.session_id, datetime.now(UTC))
    assert await refused(world, token) == "token_spent"
    another = world.issue()
    world.access.session_revoked(world.principal.session_id)
    await refused(world, another)


async def test_not_for_an_account_that_was_suspended_or_disabled_meanwhile(world: World) -> None:
    token, another = world.issue(), world.issue()
    world.access.account_changed(replace(world.ada, suspended_at=AT))
    with pytest.raises(ForbiddenError) as caught:
        await world.people.ide_tokens.redeem(token, VMID)
    assert caught.value.code == "suspended"
    world.access.account_changed(replace(world.ada, disabled_at=AT))
    await refused(world, another)


async def test_not_when_the_permission_is_gone(world: World) -> None:
    bob = await world.people.accounts.create(
        email="bob@example.com", username="bob", password="correct horse", role=Role.CUSTOMER, plan=None
    )
    _, access_token = await world.sign_in(bob)
    principal = world.access.principal(access_token)
    world.access.shares_changed(VMID, {bob.id: [Permission.IDE]})
    tokens = [world.people.ide_tokens.issue(principal, VMID) for _ in range(3)]
    assert (await world.people.ide_tokens.redeem(tokens[0], VMID)).account_id == bob.id
    world.access.shares_changed(VMID, {bob.id: [Permission.POWER]})
    with pytest.raises(ForbiddenError):
        await world.people.ide_tokens.redeem(tokens[1], VMID)
    world.access.shares_changed(VMID, {})
    with pytest.raises(AbsentError):
        await world.people.ide_tokens.redeem(tokens[2], VMID)


async def test_with_an_api_key_for_as_long_as_the_key_is_good(world: World) -> None:
    def key(*scopes: Scope) -> None:
        world.access.key_changed("hash", KeyStanding("k1", world.ada.id, frozenset(scopes), inf))

    key(Scope.IDE)
    principal = Principal(world.ada.id, Role.CUSTOMER, "key:k1", inf, frozenset({Scope.IDE}))
    tokens = [world.people.ide_tokens.issue(principal, VMID) for _ in range(4)]
    assert (await world.people.ide_tokens.redeem(tokens[0], VMID)).scopes == {Scope.IDE}
    await refused(world, tokens[0])
    key(Scope.FILES)
    with pytest.raises(ForbiddenError):
        await world.people.ide_tokens.redeem(tokens[1], VMID)
    key(Scope.IDE)
    world.access.key_changed("hash", KeyStanding("k1", world.ada.id, frozenset({Scope.IDE}), time.time() - 1))
    await refused(world, tokens[2])
    world.access.key_revoked("k1")
    await refused(world, tokens[3])


async def test_no_other_token_is_an_ide_token_and_no_ide_token_another(world: World) -> None:
    await refused(world, world.token)
    for wrong in ("", "x", "zlh_" + "x" * 43, world.issue()[:-1], world.issue() + "A"):
        await refused(world, wrong)
    with pytest.raises(UnauthenticatedError):
        world.access.principal(world.issue())


async def test_no_key_that_was_withdrawn_lets_anybody_in(world: World) -> None:
    token = world.issue()
    await world.people.signing_keys.withdraw()
    await refused(world, token)


async def test_claims_that_make_no_sense(world: World) -> None:
    signer = world.people.tokens.signer
    ada, session = world.ada.id, world.principal.session_id
    for claims in (
        {"vmid": str(VMID), "jti": "a"},
        {"vmid": float(VMID), "jti": "a"},
        {"vmid": True, "jti": "a"},
        {"vmid": [VMID], "jti": "a"},
        {"vmid": VMID},
        {"vmid": VMID, "jti": 5},
        {"vmid": VMID, "jti": "a" * 65},
        {"vmid": VMID, "jti": "a\u0000b"},
        {"vmid": VMID, "jti": ""},
        {"jti": "a"},
    ):
        await refused(world, signer.sign(IDE, ada, session, 60, **claims))
    await world.people.ide_tokens.redeem(signer.sign(IDE, ada, session, 60, vmid=VMID, jti="a"), VMID)
