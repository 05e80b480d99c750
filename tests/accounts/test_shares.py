"""Sharing changes the store and the access table together, here and in other processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa
import trio

from tests.accounts.test_access import make
from tests.stack import until
from tests.store.samples import NOW, VAULT, add_account, reserve
from zlh.accounts import AccessTable
from zlh.accounts.shares import GIVEN_TO_ONE_ADDRESS_PER_HOUR, Shares
from zlh.model.access import Permission, with_implied
from zlh.model.accounts import Account, Principal
from zlh.model.errors import TooManyError
from zlh.store import Database, containers, shares
from zlh.store.tables import accounts as accounts_table
from zlh.store.tables import outbox

POWER, CONSOLE, FILES = Permission.POWER, Permission.CONSOLE, Permission.FILES
PORTAL = "https://portal.example"


@dataclass
class Scene:
    """`ada` has a container; `bob` has an account with a verified address."""

    database: Database
    ada: Account
    bob: Account
    vmid: int
    access: AccessTable = field(default_factory=lambda: make()[0])

    def shares(self, access: AccessTable | None = None) -> Shares:
        return Shares(self.database, access or self.access, portal_url=PORTAL, now=lambda: NOW)

    def may(self, account: Account, access: AccessTable | None = None) -> frozenset[Permission]:
        return (access or self.access).permissions(principal(account), self.vmid)

    async def elsewhere(self, permissions: Collection[Permission] = (POWER,)) -> str:
        """Another process shares it with bob; the id of the share."""
        share = await self.database.run(
            shares.give,
            self.vmid,
            email=self.bob.email,
            permissions=permissions,
            given_by=self.ada.id,
            now=NOW,
        )
        return share.id


def principal(account: Account) -> Principal:
    return Principal(account.id, account.role, "session", float("inf"))


@pytest.fixture
async def scene(postgres_url: str) -> AsyncIterator[Scene]:
    database = Database(postgres_url, vault=VAULT, pool_size=4)

    def write(connection: sa.Connection) -> tuple[Account, Account, int]:
        ada, bob = add_account(connection, "ada"), add_account(connection, "bob")
        connection.execute(sa.update(accounts_table).values(email_verified_at=NOW))
        return ada, bob, reserve(connection, ada.id)[0].vmid

    ada, bob, vmid = await database.run(write)
    found = Scene(database, ada, bob, vmid)
    found.access.owner_changed(vmid, ada.id)
    yield found
    await database.aclose()


async def test_what_is_given_changed_and_withdrawn_holds_at_once(scene: Scene) -> None:
    service = scene.shares()
    share = await service.give(principal(scene.ada), scene.vmid, scene.bob.email, [CONSOLE])
    assert scene.may(scene.bob) == {Permission.VIEW, Permission.WATCH, CONSOLE}
    await service.change(scene.vmid, share.id, [POWER])
    assert scene.may(scene.bob) == with_implied({POWER})
    assert [one.vmid for one in await service.received(scene.bob.id)] == [scene.vmid]
    await service.withdraw(scene.vmid, share.id)
    assert scene.may(scene.bob) == frozenset()
    assert scene.access.shared.vmids() == set()
    again = await service.give(principal(scene.ada), scene.vmid, scene.bob.email, [FILES])
    assert await service.leave(scene.bob.id, again.id) == scene.vmid
    assert scene.may(scene.bob) == frozenset()


async def test_everything_is_read_at_start_and_what_is_gone_is_forgotten(scene: Scene) -> None:
    await scene.elsewhere()
    service = scene.shares()
    await service.load()
    assert scene.may(scene.bob) == with_implied({POWER})
    scene.access.shares_changed(5999, {scene.bob.id: [POWER]})
    await scene.database.run(containers.delete, scene.vmid)
    await service.load()
    assert scene.access.shared.vmids() == set()


async def test_other_processes_are_heard(scene: Scene) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.shares().follow)
        share_id = await scene.elsewhere()
        await until(lambda: _is(scene, {POWER}))
        await scene.database.run(shares.change, scene.vmid, share_id, [FILES])
        await until(lambda: _is(scene, {FILES}))
        await scene.database.run(shares.withdraw, scene.vmid, share_id)
        await until(lambda: _is(scene, None))
        # A container that another process removes takes what this one remembers of its shares.
        await scene.elsewhere()
        await until(lambda: _is(scene, {POWER}))
        await scene.database.run(containers.delete, scene.vmid)
        await until(lambda: _is(scene, None))
        nursery.cancel_scope.cancel()


async def test_an_address_that_is_verified_elsewhere_is_heard(scene: Scene) -> None:
    eve = await scene.database.run(add_account, "eve")
    await scene.shares().give(principal(scene.ada), scene.vmid, "eve@example.com", [POWER])
    assert scene.may(eve) == frozenset()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.shares().follow)
        assert await scene.database.run(shares.bind, eve) == [scene.vmid]
        await until(lambda: _is(scene, {POWER}, eve))
        nursery.cancel_scope.cancel()


async def _is(scene: Scene, given: set[Permission] | None, account: Account | None = None) -> bool:
    return scene.may(account or scene.bob) == (with_implied(given) if given else frozenset())


async def test_many_changes_at_once_leave_the_table_as_the_store_is(scene: Scene) -> None:
    service = scene.shares()
    share = await service.give(principal(scene.ada), scene.vmid, scene.bob.email, [POWER])
    wanted: list[Collection[Permission]] = [[POWER], [FILES], [CONSOLE], [POWER, FILES]] * 5
    async with trio.open_nursery() as nursery:
        for permissions in wanted:
            nursery.start_soon(service.change, scene.vmid, share.id, permissions)
    stored = await scene.database.run(shares.held, scene.vmid)
    assert scene.may(scene.bob) == with_implied(stored[scene.bob.id])


async def test_the_address_gets_a_letter_whether_it_has_an_account_or_not(scene: Scene) -> None:
    service = scene.shares()
    known = await service.give(principal(scene.ada), scene.vmid, scene.bob.email, [CONSOLE, POWER])
    unknown = await service.give(principal(scene.ada), scene.vmid, "nobody@example.com", [CONSOLE, POWER])
    assert (known.permissions, known.given_by) == (unknown.permissions, unknown.given_by)

    def letters(connection: sa.Connection) -> dict[str, str]:
        return {row.recipient: VAULT.open(row.sealed) for row in connection.execute(sa.select(outbox))}

    sent = await scene.database.run(letters)
    assert set(sent) == {scene.bob.email, "nobody@example.com"}
    assert sent[scene.bob.email] == sent["nobody@example.com"]
    for words in ("ada", "My Server", "power, watch, console", PORTAL):
        assert words in sent[scene.bob.email]


async def test_without_mail_no_letter_waits(scene: Scene) -> None:
    service = Shares(scene.database, scene.access, portal_url=None, now=lambda: NOW)
    await service.give(principal(scene.ada), scene.vmid, scene.bob.email, [POWER])
    count = sa.select(sa.func.count()).select_from(outbox)
    assert await scene.database.run(lambda connection: connection.execute(count).scalar()) == 0


async def test_nobodys_mailbox_is_filled(scene: Scene) -> None:
    service = scene.shares()
    for _ in range(GIVEN_TO_ONE_ADDRESS_PER_HOUR):
        share = await service.give(principal(scene.ada), scene.vmid, "Victim@example.com", [POWER])
        await service.withdraw(scene.vmid, share.id)
    with pytest.raises(TooManyError):
        await service.give(principal(scene.ada), scene.vmid, "victim@EXAMPLE.com", [POWER])
    assert await service.of_container(scene.vmid) == []
    await service.give(principal(scene.ada), scene.vmid, "another@example.com", [POWER])
