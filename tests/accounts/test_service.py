from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import trio

from zlh.accounts import AccessTable, Accounts, Passwords, Rules, SignedIn, Tokens, open_keyring
from zlh.model.accounts import Role
from zlh.model.errors import ConflictError, ForbiddenError, TooManyError, UnauthenticatedError
from zlh.store.database import Database
from zlh.store.vault import Vault

PASSWORD = "correct horse"


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class World:
    database: Database
    tokens: Tokens
    access: AccessTable
    clock: Clock
    vault: Vault

    def service(self, passwords: Passwords | None = None, **rules: object) -> Accounts:
        return Accounts(
            self.database,
            passwords or Passwords.cheap(),
            self.tokens,
            self.access,
            Rules(**rules),  # type: ignore[arg-type]
            now=self.clock,
        )


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    database = Database(postgres_url, pool_size=4)
    vault = Vault([Vault.new_key()])
    tokens = Tokens(await open_keyring(database, vault, alive_seconds=660), issuer="test", lifetime_seconds=600)
    try:
        yield World(database, tokens, AccessTable(tokens), Clock(), vault)
    finally:
        await database.aclose()


async def register(service: Accounts, name: str = "ada") -> SignedIn:
    return await service.register(email=f"{name}@example.com", username=name, password=PASSWORD)


async def test_register_login_logout(world: World) -> None:
    service = world.service(default_plan="starter")
    signed = await register(service)
    assert signed.account.plan == "starter"
    assert signed.account.role is Role.CUSTOMER
    assert world.access.principal(signed.token).account_id == signed.account.id
    for identifier in ("ada", "ADA", " ada ", "Ada@Example.COM"):
        again = await service.login(identifier=identifier, password=PASSWORD)
        assert again.account.id == signed.account.id
    principal = world.access.principal(again.token)
    await service.logout(principal)
    await service.logout(principal)
    with pytest.raises(UnauthenticatedError):
        world.access.principal(again.token)
    with pytest.raises(UnauthenticatedError):
        await service.refresh(again.refresh_token)
    assert world.access.principal(signed.token)


async def test_taken_names_say_which(world: World) -> None:
    service = world.service()
    await register(service)
    with pytest.raises(ConflictError) as caught:
        await service.register(email="ADA@example.com", username="other", password=PASSWORD)
    assert caught.value.code == "taken"
    assert caught.value.details == {"fields": ["email"]}


async def test_registration_can_be_closed(world: World) -> None:
    with pytest.raises(ForbiddenError):
        await register(world.service(registration=False))


async def test_unknown_and_wrong_say_and_cost_the_same(world: World) -> None:
    service = world.service(Passwords(memory_kib=8192, passes=2, lanes=1, threads=1), attempts_per_address=1000)
    await register(service)
    with pytest.raises(UnauthenticatedError):
        await service.login(identifier="warm", password="up the decoy")
    costs: dict[str, float] = {}
    words = set()
    for identifier in ("ada", "nobody"):
        best = 9.0
        for _ in range(5):
            began = time.perf_counter()
            with pytest.raises(UnauthenticatedError) as caught:
                await service.login(identifier=identifier, password="wrong password")
            best = min(best, time.perf_counter() - began)
            words.add((caught.value.message, caught.value.code))
        costs[identifier] = best
    assert len(words) == 1
    assert 0.4 < costs["ada"] / costs["nobody"] < 2.5


async def test_attempts_are_limited_before_hashing(world: World) -> None:
    service = world.service(attempts_per_account=3, attempts_per_address=5)
    await register(service)
    for _ in range(3):
        with pytest.raises(UnauthenticatedError):
            await service.login(identifier="ada", password="wrong password", address="192.0.2.1")
    with pytest.raises(TooManyError) as caught:
        await service.login(identifier="ADA", password=PASSWORD, address="192.0.2.2")
    assert (caught.value.retry_after or 0) > 0
    with pytest.raises(UnauthenticatedError):
        await service.login(identifier="bob", password="wrong password", address="192.0.2.1")
    with pytest.raises(UnauthenticatedError):
        await service.login(identifier="cid", password="wrong password", address="192.0.2.1")
    with pytest.raises(TooManyError):
        await service.login(identifier="dan", password="wrong password", address="192.0.2.1")


async def test_refresh_rotates_and_reuse_ends_the_family(world: World) -> None:
    service = world.service()
    first = await register(service)
    second = await service.refresh(first.refresh_token)
    assert second.account == first.account
    # A second tab that refreshed at the same moment is let in for some seconds.
    await service.refresh(first.refresh_token)
    world.clock.now += timedelta(seconds=11)
    with pytest.raises(UnauthenticatedError):
        await service.refresh(first.refresh_token)
    with pytest.raises(UnauthenticatedError):
        await service.refresh(second.refresh_token)
    with pytest.raises(UnauthenticatedError):
        world.access.principal(second.token)


async def test_two_clients_with_one_refresh_token_at_once(world: World) -> None:
    service = world.service()
    first = await register(service)
    got: list[SignedIn] = []

    async def refresh() -> None:
        got.append(await service.refresh(first.refresh_token))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refresh)
        nursery.start_soon(refresh)
    assert len({signed.refresh_token for signed in got}) == 2


@pytest.mark.parametrize("token", ["", "x", "\udcff", "' OR 1=1 --", "x" * 5000])
async def test_nonsense_refresh_tokens(world: World, token: str) -> None:
    with pytest.raises(UnauthenticatedError):
        await world.service().refresh(token)


async def test_a_refresh_token_expires(world: World) -> None:
    service = world.service(refresh_token_days=1)
    first = await register(service)
    world.clock.now += timedelta(days=1, seconds=1)
    with pytest.raises(UnauthenticatedError):
        await service.refresh(first.refresh_token)


async def test_hashes_are_renewed_when_parameters_change(world: World) -> None:
    signed = await register(world.service())
    stronger = Passwords(memory_kib=128, passes=2, lanes=1, threads=1)
    assert stronger.outdated(signed.account.password_hash)
    again = await world.service(stronger).login(identifier="ada", password=PASSWORD)
    assert not stronger.outdated(again.account.password_hash)
    assert (await world.service(stronger).login(identifier="ada", password=PASSWORD)).account == again.account


async def test_a_restart_remembers_revocations_and_keys(world: World) -> None:
    service = world.service()
    kept, ended = await register(service, "ada"), await register(service, "bob")
    await service.logout(world.access.principal(ended.token))
    tokens = Tokens(
        await open_keyring(world.database, world.vault, alive_seconds=660), issuer="test", lifetime_seconds=600
    )
    access = AccessTable(tokens)
    await Accounts(world.database, Passwords.cheap(), tokens, access, Rules(), now=world.clock).load()
    assert access.principal(kept.token).account_id == kept.account.id
    with pytest.raises(UnauthenticatedError):
        access.principal(ended.token)


async def test_rename_and_suspend(world: World) -> None:
    service = world.service()
    signed = await register(service)
    renamed = await service.rename(signed.account.id, display_name="Ada L.", first_name=None, last_name="Lovelace")
    assert (renamed.display_name, renamed.first_name, renamed.last_name) == ("Ada L.", "", "Lovelace")
    await service.suspend(signed.account.id)
    principal = world.access.principal(signed.token)
    assert world.access.suspended(principal)
    await service.unsuspend(signed.account.id)
    assert not world.access.suspended(principal)


async def test_passwords_hash_in_threads_and_refuse_garbage() -> None:
    passwords = Passwords.cheap()
    stored = await passwords.hash("päss wörd")
    assert stored.startswith("$argon2id$")
    assert await passwords.verify(stored, "päss wörd")
    assert not await passwords.verify(stored, "pass word")
    assert not await passwords.verify("not a hash", "x")
    assert not await passwords.verify(None, "x")
