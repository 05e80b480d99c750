"""Rotation over the real store: on schedule, by command, at once; one process does it and all others hear of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import sqlalchemy as sa
import trio

from tests.stack import until
from tests.stopwatch import Stopwatch
from zlh.accounts import AccessTable, KeyRules, KeyState, SigningKeys, Tokens, open_keyring
from zlh.model.accounts import Account, Role
from zlh.model.errors import UnauthenticatedError
from zlh.store import Database, Vault, VaultError, keys, upkeep
from zlh.store.urls import libpq_url

RULES = KeyRules(timedelta(days=90), timedelta(hours=1))
ADA = Account(1, "a@example.com", "ada", "x", Role.CUSTOMER, datetime(2026, 1, 1, tzinfo=UTC))


@dataclass
class Clock:
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.at

    def unix(self) -> float:
        return self.at.timestamp()


@dataclass
class Process:
    """What one process has in memory."""

    keys: SigningKeys
    tokens: Tokens
    access: AccessTable

    def knows(self, token: str) -> bool:
        try:
            self.access.principal(token)
        except UnauthenticatedError:
            return False
        return True


@dataclass
class World:
    database: Database
    vault: Vault
    clock: Clock

    async def process(self) -> Process:
        keyring = await open_keyring(self.database, self.vault, alive_seconds=660, now=self.clock)
        tokens = Tokens(keyring, issuer="test", lifetime_seconds=600, now=self.clock.unix)
        access = AccessTable(tokens, now=self.clock.unix)
        access.account_changed(ADA)
        made = SigningKeys(
            self.database, self.vault, keyring, RULES, withdrawn=access.tokens_withdrawn, now=self.clock
        )
        return Process(made, tokens, access)

    def pass_time(self, **amount: float) -> None:
        self.clock.at += timedelta(**amount)


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    database = Database(postgres_url, pool_size=6)
    yield World(database, Vault([Vault.new_key()]), Clock())
    await database.aclose()


async def listed(process: Process) -> list[KeyState]:
    return [state for _, state in await process.keys.listed()]


async def test_two_processes_that_start_at_once_have_one_key(world: World) -> None:
    found: list[Process] = []

    async def start() -> None:
        found.append(await world.process())

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(start)
    assert len({process.keys.keyring.signing().kid for process in found}) == 1
    token = found[0].tokens.issue(1, "s")
    assert all(process.knows(token) for process in found)


async def test_on_schedule_one_process_makes_the_next_and_all_use_it_in_time(world: World) -> None:
    processes = [await world.process() for _ in range(3)]
    first = processes[0].keys.keyring.signing().kid
    world.pass_time(days=89)
    await processes[0].keys.rotate_if_due()
    assert await listed(processes[0]) == [KeyState.SIGNING]
    world.pass_time(hours=23.5)
    async with trio.open_nursery() as nursery:
        for process in processes:
            nursery.start_soon(process.keys.rotate_if_due)
    assert await listed(processes[0]) == [KeyState.PUBLISHED, KeyState.SIGNING]
    tokens = [process.tokens.issue(1, "s") for process in processes]
    assert {process.keys.keyring.signing().kid for process in processes} == {first}
    assert {len(process.keys.keyring.published()) for process in processes} == {2}
    world.pass_time(seconds=3599)
    assert processes[1].keys.keyring.signing().kid == first
    tokens.append(processes[1].tokens.issue(1, "s"))
    world.pass_time(seconds=1)
    assert processes[1].keys.keyring.signing().kid != first
    assert processes[2].knows(tokens[-1])
    world.pass_time(seconds=598)
    assert processes[2].knows(tokens[-1])
    assert await listed(processes[0]) == [KeyState.SIGNING, KeyState.RETIRED]
    world.pass_time(seconds=100)
    assert await listed(processes[0]) == [KeyState.SIGNING, KeyState.FORGOTTEN]
    assert [pair.kid for pair in processes[0].keys.keyring.published()] == [processes[0].keys.keyring.signing().kid]
    assert await world.database.run(upkeep.forget_old, world.clock() + timedelta(days=3)) == 1
    assert await listed(processes[0]) == [KeyState.SIGNING]


async def test_by_command_the_next_is_published_and_asking_twice_makes_no_second(world: World) -> None:
    running, command = await world.process(), await world.process()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.keys.follow)
        made = await command.keys.rotate()
        assert made.signs_at == world.clock() + timedelta(hours=1)
        assert await command.keys.rotate() == made

        async def published() -> bool:
            return made.kid in {pair.kid for pair in running.keys.keyring.published()}

        await until(published, within=5)
        assert running.keys.keyring.signing().kid != made.kid
        nursery.cancel_scope.cancel()
    world.pass_time(hours=1)
    assert running.keys.keyring.signing().kid == made.kid


async def test_a_withdrawn_key_is_refused_at_once_everywhere(world: World, caplog: pytest.LogCaptureFixture) -> None:
    running, command = await world.process(), await world.process()
    stolen = running.tokens.issue(1, "s")
    assert running.knows(stolen)
    ended: list[tuple[int, str]] = []
    running.access.stay(running.access.principal(stolen)).on_end(lambda code, reason: ended.append((code, reason)))
    next_one = await command.keys.rotate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.keys.follow)
        with caplog.at_level(logging.WARNING):
            watch = Stopwatch()
            made = await command.keys.withdraw()

            async def refused() -> bool:
                return not running.knows(stolen)

            await until(refused, within=5)
            assert watch.seconds < 1
        nursery.cancel_scope.cancel()
    assert not command.knows(stolen)
    assert ended == [(4401, "signed out")]
    assert "withdrawn" in caplog.text
    assert [pair.kid for pair in running.keys.keyring.published()] == [made.kid]
    assert next_one.kid not in {pair.kid for pair in command.keys.keyring.published()}
    assert running.knows(command.tokens.issue(1, "s"))
    assert sorted(await listed(command)) == [KeyState.SIGNING, KeyState.WITHDRAWN, KeyState.WITHDRAWN]
    # A process that starts later has never heard of it.
    assert not (await world.process()).knows(stolen)


async def test_a_process_that_has_heard_nothing_for_long_looks_for_itself(world: World) -> None:
    deaf, command = await world.process(), await world.process()
    token = deaf.tokens.issue(1, "s")
    assert deaf.knows(token)
    await command.keys.withdraw()
    await deaf.keys.rotate_if_due()
    assert not deaf.knows(token)


async def test_two_rotations_at_once_make_one_key(world: World) -> None:
    processes = [await world.process() for _ in range(4)]
    kids: list[str] = []

    async def rotate(process: Process) -> None:
        kids.append((await process.keys.rotate()).kid)

    async with trio.open_nursery() as nursery:
        for process in processes:
            nursery.start_soon(rotate, process)
    assert len(set(kids)) == 1
    assert len(await listed(processes[0])) == 2


async def test_those_that_are_due_at_the_same_moment_wait_for_the_one_that_does_it(world: World) -> None:
    processes = [await world.process() for _ in range(3)]
    world.pass_time(days=90)

    async def waiting() -> bool:
        query = """
            SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
            WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()
        """
        found = await world.database.run(lambda connection: connection.execute(sa.text(query)).scalar_one())
        return int(found) == 3

    other = psycopg.connect(libpq_url(world.database.url))
    try:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (keys._LOCK,))
        async with trio.open_nursery() as nursery:
            for process in processes:
                nursery.start_soon(process.keys.rotate_if_due)
            await until(waiting, within=5)
            other.rollback()
    finally:
        other.close()
    assert len(await listed(processes[0])) == 2


async def test_the_beat_goes_on_without_the_database(world: World, caplog: pytest.LogCaptureFixture) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/none", pool_size=1)
    here = await world.process()
    lost = SigningKeys(away, world.vault, here.keys.keyring, RULES, now=world.clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lost.rotate_in_time)

        async def warned() -> bool:
            return "the signing keys stay as they are" in caplog.text

        await until(warned, within=15)
        nursery.cancel_scope.cancel()
    assert here.knows(here.tokens.issue(1, "s"))
    await away.aclose()


async def test_private_keys_are_sealed_and_never_shown(world: World) -> None:
    process = await world.process()
    (key, _) = (await process.keys.listed())[0]
    secret = key.private_pem.decode()
    rows = await world.database.run(lambda connection: connection.execute(sa.text("TABLE signing_keys")).all())
    assert b"PRIVATE KEY" not in bytes(rows[0].private_pem)
    for shown in (repr(key), repr(process.keys.keyring.signing()), repr(process.keys), str(key)):
        assert secret not in shown
        assert "PRIVATE" not in shown
    with pytest.raises(VaultError):
        await world.database.run(keys.all_keys, Vault([Vault.new_key()]))
