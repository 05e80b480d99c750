"""Passes, and who comes in by them: as the access table says at the moment, and as long as the session lives."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
import trio

from tests.gateway.ide import row
from tests.gateway.peer import until
from zlh.accounts import AccountServices, KeyStanding, Passwords, Rules, TokenRules, open_accounts
from zlh.accounts.access import key_hash
from zlh.accounts.keyring import make_key
from zlh.ide import ForwardedPorts, Gatekeeper, Passes, Place
from zlh.model.access import Permission, Scope
from zlh.model.accounts import Account, Acting, Principal, Role
from zlh.model.containers import Container
from zlh.model.errors import AbsentError, ConflictError, ForbiddenError, InvalidError, UnauthenticatedError
from zlh.model.ports import Visibility
from zlh.store import Database, StoreUnavailable, Vault, containers, sessions
from zlh.store.keys import SigningKey

VMID, PORT = 6001, 3000
IDE, SHOP = Place(VMID), Place(VMID, PORT)
FAR = datetime(2100, 1, 1, tzinfo=UTC)
VOUCHED, LIFE = 600.0, 43200.0


@dataclass
class House:
    database: Database
    people: AccountServices
    ports: ForwardedPorts
    passes: Passes
    keeper: Gatekeeper
    ada: Account
    bob: Account
    eve: Account
    ahead: float = 0.0
    heard: list[int] = field(default_factory=list)

    def now(self) -> float:
        return time.time() + self.ahead

    async def sign_in(self, account: Account, expires_at: datetime = FAR) -> Principal:
        session = await self.database.run(
            sessions.open_session,
            account.id,
            f"hash{account.id}{expires_at}",
            now=datetime.now(UTC),
            expires_at=expires_at,
        )
        return self.people.access.principal(self.people.tokens.issue(account.id, session.id))

    async def enter(self, principal: Principal, place: Place = IDE) -> str:
        """The pass of one who came by a token."""
        return await self.keeper.redeem(self.people.ide_tokens.issue(principal, place.vmid, place.port), place)

    async def refusal(self, place: Place, *offered: str) -> str:
        with pytest.raises((UnauthenticatedError, ForbiddenError, AbsentError)) as caught:
            await self.keeper.admit(place, list(offered))
        return caught.value.code


class Away:
    """A database that does not answer."""

    async def run(self, *work: object) -> None:
        raise StoreUnavailable("away")


@pytest.fixture
async def house(postgres_url: str) -> AsyncIterator[House]:
    database = Database(postgres_url, pool_size=4, vault=(vault := Vault([Vault.new_key()])))
    rules = TokenRules("test", VOUCHED, longest_seconds=LIFE)
    people = await open_accounts(database, vault, Passwords.cheap(), Rules(), rules)
    made: list[Account] = []
    for name in ("ada", "bob", "eve"):
        role = Role.OPERATOR if name == "eve" else Role.CUSTOMER
        account = await people.accounts.create(
            email=f"{name}@example.com", username=name, password="correct horse", role=role, plan=None
        )
        made.append(account)
    people.access.owner_changed(VMID, made[0].id)
    container: Container = replace(row("10.0.0.1"), owner_id=made[0].id)
    await database.run(containers.insert, [container])
    ports = ForwardedPorts(
        database, reserved=frozenset((8443,)), exists=lambda vmid: people.access.owner_of(vmid) is not None
    )
    house: House
    passes = Passes(
        database, people.tokens.signer, people.access, seconds=LIFE, vouched_seconds=VOUCHED, now=lambda: house.now()
    )
    keeper = Gatekeeper(people.access, passes, people.ide_tokens, ports, people.tokens.signer)
    house = House(database, people, ports, passes, keeper, *made)
    ports.heard.append(house.heard.append)
    yield house
    await database.aclose()


async def test_a_token_becomes_a_pass_for_that_place_alone(house: House) -> None:
    ada = await house.sign_in(house.ada)
    given = await house.enter(ada)
    admitted = await house.keeper.admit(IDE, ["nonsense", given])
    assert admitted.principal is not None
    assert (admitted.principal.account_id, admitted.renewed) == (house.ada.id, None)
    assert await house.refusal(Place(6002), given) == "unauthenticated"
    assert await house.refusal(SHOP, given) == "unauthenticated"
    assert await house.refusal(IDE) == "unauthenticated"
    token = house.people.ide_tokens.issue(ada, VMID)
    assert await house.refusal(IDE, token) == "unauthenticated", "a token is no pass"
    assert await house.refusal(IDE, house.people.tokens.issue(house.ada.id, ada.session_id)) == "unauthenticated"
    with pytest.raises(UnauthenticatedError):
        await house.keeper.redeem(given, IDE)


async def test_a_withdrawn_key_ends_the_passes_that_it_signed_however_often_they_were_used(house: House) -> None:
    ada = await house.sign_in(house.ada)
    given = await house.enter(ada)
    assert (await house.keeper.admit(IDE, [given])).principal is not None
    kid, private, public = make_key()
    keyring, now = house.people.tokens.signer.keyring, datetime.now(UTC)
    keyring.hold(
        [
            *(SigningKey(pair.kid, b"", "", now, now, withdrawn_at=now) for pair in keyring.published()),
            SigningKey(kid, private, public, now, now),
        ]
    )
    assert await house.refusal(IDE, given) == "signed_out"
    assert house.keeper.recognise(IDE, given) is None
    assert (await house.keeper.admit(IDE, [await house.enter(ada)])).principal is not None


async def test_every_request_is_asked_of_the_access_table(house: House) -> None:
    bob = await house.sign_in(house.bob)
    access = house.people.access
    access.shares_changed(VMID, {house.bob.id: [Permission.IDE]})
    given = await house.enter(bob)
    grant = house.keeper.stay(IDE, (await house.keeper.admit(IDE, [given])).principal or bob)
    ends: list[int] = []
    grant.on_end(lambda code, reason: ends.append(code))
    access.shares_changed(VMID, {house.bob.id: [Permission.FILES]})
    assert (await house.refusal(IDE, given), ends) == ("not_permitted", [4403])
    access.shares_changed(VMID, {})
    assert await house.refusal(IDE, given) == "not_found"
    access.shares_changed(VMID, {house.bob.id: [Permission.IDE]})
    await house.keeper.admit(IDE, [given])
    access.account_changed(replace(house.bob, suspended_at=house.bob.created_at))
    assert await house.refusal(IDE, given) == "suspended"
    access.account_changed(house.bob)
    access.session_revoked(bob.session_id)
    assert await house.refusal(IDE, given) == "signed_out"


async def test_a_used_pass_is_renewed_and_an_old_one_asks_the_store(house: House) -> None:
    ada = await house.sign_in(house.ada)
    first = await house.enter(ada)
    house.ahead = VOUCHED / 2 + 1
    renewed = (await house.keeper.admit(IDE, [first])).renewed
    assert renewed is not None
    # Hours later, without a use: the session lives, so the pass is good.
    house.ahead = LIFE - 60
    assert (await house.keeper.admit(IDE, [first])).renewed is not None
    house.ahead = LIFE + 60
    assert await house.refusal(IDE, first) == "token_expired"


async def test_a_session_that_was_revoked_long_ago_is_not_forgotten(house: House) -> None:
    """The access table forgets revocations after the life of an access token, the store does not."""
    ada = await house.sign_in(house.ada)
    given = await house.enter(ada)
    await house.database.run(sessions.revoke, ada.session_id, now=datetime.now(UTC))
    await house.keeper.admit(IDE, [given])  # nobody told the table of this process
    house.ahead = VOUCHED + 1
    assert await house.refusal(IDE, given) == "signed_out"


async def test_a_session_that_ran_out_ends_the_visit(house: House) -> None:
    ada = await house.sign_in(house.ada, datetime.now(UTC) + timedelta(seconds=900))
    given = await house.enter(ada)
    house.ahead = VOUCHED + 1
    await house.keeper.admit(IDE, [given])
    house.ahead = 901
    assert await house.refusal(IDE, given) == "token_expired"
    with pytest.raises(UnauthenticatedError):
        await house.passes.vouch(ada)


async def test_an_operator_in_a_customers_place_leaves_when_that_session_ends(house: House) -> None:
    ends_at = datetime.now(UTC) + timedelta(seconds=100)
    session = await house.database.run(
        sessions.open_acting,
        house.ada.id,
        operator_id=house.eve.id,
        reason="a ticket",
        read_only=False,
        now=datetime.now(UTC),
        expires_at=ends_at,
    )
    token = house.people.tokens.issue(house.ada.id, session.id, Acting(house.eve.id, read_only=False))
    given = await house.enter(house.people.access.principal(token))
    principal = (await house.keeper.admit(IDE, [given])).principal
    assert principal is not None
    assert principal.acting is not None
    # What it opened ends at that moment, not at the next look at the session.
    assert house.keeper.stay(IDE, principal).expires_at <= ends_at.timestamp()
    house.ahead = 101
    assert await house.refusal(IDE, given) == "token_expired"


async def test_without_the_store_a_young_pass_is_good_and_an_old_one_waits(house: House) -> None:
    given = await house.enter(await house.sign_in(house.ada))
    house.passes._database = Away()  # type: ignore[assignment]
    house.ahead = VOUCHED - 1
    assert (await house.keeper.admit(IDE, [given])).renewed is None
    house.ahead = VOUCHED + 1
    with pytest.raises(StoreUnavailable):
        await house.keeper.admit(IDE, [given])


async def test_an_api_key_needs_its_scopes_and_ends_with_it(house: House) -> None:
    access = house.people.access
    key = KeyStanding("k1", house.ada.id, frozenset((Scope.IDE,)), time.time() + 10_000)
    access.key_changed(key_hash("zlh_k1"), key)
    given = await house.enter(access.principal("zlh_k1"))
    principal = (await house.keeper.admit(IDE, [given])).principal
    assert principal is not None
    assert not house.keeper.may_power(principal, VMID)
    assert house.keeper.stay(IDE, principal).expires_at == key.expires_at
    access.key_changed(key_hash("zlh_k1"), replace(key, scopes=frozenset((Scope.FILES,))))
    assert await house.refusal(IDE, given) == "scope"
    access.key_revoked("k1")
    assert await house.refusal(IDE, given) == "signed_out"


async def test_private_ports_are_for_those_of_the_ide(house: House) -> None:
    ada, bob = await house.sign_in(house.ada), await house.sign_in(house.bob)
    with pytest.raises(AbsentError):
        await house.enter(ada, SHOP)
    await house.ports.open(VMID, PORT, Visibility.PRIVATE, "shop")
    given = await house.enter(ada, SHOP)
    await house.keeper.admit(SHOP, [given])
    assert await house.refusal(IDE, given) == "unauthenticated"
    with pytest.raises(AbsentError):
        await house.enter(bob, SHOP)
    await house.ports.close(VMID, PORT)
    assert await house.refusal(SHOP, given) == "not_found"
    assert not house.keeper.welcome(SHOP, ada)


async def test_ports_for_all(house: House) -> None:
    bob = await house.sign_in(house.bob)
    await house.ports.open(VMID, PORT, Visibility.SIGNED_IN, "")
    given = await house.enter(bob, SHOP)
    assert (await house.keeper.admit(SHOP, [given])).principal is not None
    assert await house.refusal(SHOP) == "unauthenticated"
    ada = await house.sign_in(house.ada)
    assert [house.keeper.may_into_ide(who, VMID) for who in (ada, bob)] == [True, False]
    grant = house.keeper.stay(SHOP, bob)
    ends: list[int] = []
    grant.on_end(lambda code, reason: ends.append(code))
    await house.ports.change(VMID, PORT, Visibility.PRIVATE, None)
    assert not house.keeper.welcome(SHOP, bob)
    assert await house.refusal(SHOP, given) == "not_found"
    await house.ports.change(VMID, PORT, Visibility.PUBLIC, None)
    assert (await house.keeper.admit(SHOP, [])).principal is None
    assert house.keeper.welcome(SHOP, None)
    assert not house.keeper.welcome(IDE, None)
    house.people.access.session_revoked(bob.session_id)
    assert ends == [4401]


async def test_ports_in_memory_are_as_in_the_store(house: House) -> None:
    await house.ports.open(VMID, PORT, Visibility.PRIVATE, "shop")
    await house.ports.open(VMID, 80, Visibility.PUBLIC, "")
    assert [port.port for port in house.ports.of(VMID)] == [80, PORT]
    with pytest.raises(ConflictError):
        await house.ports.open(VMID, 80, Visibility.PRIVATE, "")
    with pytest.raises(InvalidError):
        await house.ports.open(VMID, 8443, Visibility.PRIVATE, "")
    with pytest.raises(AbsentError):
        await house.ports.open(6002, 80, Visibility.PRIVATE, "")
    other = ForwardedPorts(house.database, reserved=frozenset(), exists=lambda vmid: True)
    await other.load()
    assert other.of(VMID) == house.ports.of(VMID)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.follow)
        await house.ports.change(VMID, PORT, None, "till")
        await until(lambda: [port.label for port in other.of(VMID)] == ["", "till"])
        nursery.cancel_scope.cancel()
    house.ports.forget(VMID)
    assert house.ports.of(VMID) == []
    assert set(house.heard) == {VMID}


async def test_a_port_of_a_container_that_goes_meanwhile_is_not_remembered(house: House) -> None:
    house.people.access.owner_changed(VMID, None)
    with pytest.raises(AbsentError):
        await house.ports.open(VMID, PORT, Visibility.PUBLIC, "")
    assert house.ports.of(VMID) == []


async def test_what_looks_like_a_credential_of_ours(house: House) -> None:
    ada = await house.sign_in(house.ada)
    tokens = house.people.tokens.issue(house.ada.id, ada.session_id), house.people.ide_tokens.issue(ada, VMID)
    assert all(house.keeper.is_ours(f"Bearer {token}") for token in (*tokens, "zlh_x"))
    others = ("", "Basic dTpw", "Bearer abc", f"Bearer a.b.{'c' * 86}")
    assert not any(house.keeper.is_ours(given) for given in others)


async def test_who_is_recognised_is_who_would_be_admitted(house: House) -> None:
    """At every moment: from memory alone, the pass says what the long way would."""
    keeper, ada = house.keeper, await house.sign_in(house.ada)
    given = await house.enter(ada)
    assert keeper.recognise(IDE, given) is None, "it was not seen before"
    admitted = await keeper.admit(IDE, [given])
    assert keeper.recognise(IDE, given) == admitted.principal
    assert keeper.recognise(IDE, "nonsense") is None
    assert keeper.recognise(Place(6002), given) is None
    assert keeper.recognise(SHOP, given) is None
    access = house.people.access
    access.owner_changed(VMID, house.bob.id)
    assert keeper.recognise(IDE, given) is None
    access.owner_changed(VMID, house.ada.id)
    access.account_changed(replace(house.ada, suspended_at=FAR))
    assert keeper.recognise(IDE, given) is None
    access.account_changed(house.ada)
    assert keeper.recognise(IDE, given) is not None
    # Old enough to be renewed, which takes the store.
    house.ahead = VOUCHED / 2 + 1
    assert keeper.recognise(IDE, given) is None
    assert (await keeper.admit(IDE, [given])).renewed is not None
    house.ahead = 0.0
    access.session_revoked(ada.session_id)
    assert keeper.recognise(IDE, given) is None
    assert await house.refusal(IDE, given) == "signed_out"


async def test_a_pass_of_a_withdrawn_key_is_not_recognised(house: House) -> None:
    given = await house.enter(await house.sign_in(house.ada))
    await house.keeper.admit(IDE, [given])
    house.people.tokens.signer.keyring.hold([])
    assert house.keeper.recognise(IDE, given) is None
