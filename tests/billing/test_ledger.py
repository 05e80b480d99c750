from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import trio

from tests.billing.sale import NOW
from tests.store.samples import SMALL, VAULT, a_game, add_account, reserve
from zlh.billing import Machine
from zlh.billing import ledger as ledgers
from zlh.billing.ledger import Ledger
from zlh.model.containers import Container, Power
from zlh.store import Database
from zlh.store.billing_tables import container_hours

MINUTE = timedelta(minutes=1)
EVER = (NOW - timedelta(days=1), NOW + timedelta(days=400))


class World:
    """Containers, what they are seen to do, and a clock."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = NOW
        self.power: dict[int, Power] = {}
        self.rows: dict[int, Container] = {}
        self.ledger = self.open()

    def open(self) -> Ledger:
        """As another process would."""
        return Ledger(self.database, self.machines, lambda: self.now)

    def machines(self) -> list[Machine]:
        return [Machine(row, self.power[vmid]) for vmid, row in self.rows.items()]

    async def container(self, name: str = "ada", plan: str | None = "starter") -> int:
        def write(connection: sa.Connection) -> Container:
            account = add_account(connection, name, plan=plan)
            return reserve(connection, account.id, request=a_game(resources=SMALL))[0]

        row = await self.database.run(write)
        self.rows[row.vmid], self.power[row.vmid] = row, Power.ON
        return row.vmid

    async def watch(self, minutes: int) -> None:
        for _ in range(minutes):
            self.now += MINUTE
            await self.ledger.look()

    async def kept(self) -> list[tuple[int, datetime, datetime, str]]:
        columns = [container_hours.c[name] for name in ("vmid", "started_at", "ended_at", "plan")]
        query = sa.select(*columns).order_by(container_hours.c.id)
        return await self.database.run(lambda connection: [tuple(row) for row in connection.execute(query)])

    async def csv(self, *span: datetime, **more: Any) -> list[dict[str, str]]:
        text = b"".join([part async for part in self.ledger.export(*(span or EVER), **more)])
        return list(csv.DictReader(io.StringIO(text.decode(), newline="")))


@pytest.fixture
async def world(postgres_url: str) -> Any:
    database = Database(postgres_url, pool_size=4, vault=VAULT)
    yield World(database)
    await database.aclose()


async def test_what_runs_is_written_down_when_it_stops(world: World) -> None:
    vmid = await world.container()
    assert await world.ledger.look() == 1
    await world.watch(3)
    assert await world.kept() == []
    world.power[vmid] = Power.OFF
    await world.watch(1)
    assert await world.kept() == [(vmid, NOW, NOW + 3 * MINUTE, "starter")]
    await world.watch(5)
    assert len(await world.kept()) == 1


async def test_an_hour_is_written_down_when_it_is_full(world: World) -> None:
    vmid = await world.container()
    world.now += 30 * MINUTE
    await world.ledger.look()
    await world.watch(91)
    hour = NOW + timedelta(hours=1)
    assert await world.kept() == [
        (vmid, NOW + 30 * MINUTE, hour, "starter"),
        (vmid, hour, hour + timedelta(hours=1), "starter"),
    ]


async def test_the_plan_is_that_of_the_account(world: World) -> None:
    vmid = await world.container(plan=None)
    await world.ledger.look()
    await world.watch(1)
    plan = sa.text("UPDATE accounts SET plan = 'studio'")
    await world.database.run(lambda connection: connection.execute(plan) and None)
    await world.watch(2)
    world.power[vmid] = Power.OFF
    await world.watch(1)
    assert [(end - start, plan) for _, start, end, plan in await world.kept()] == [
        (2 * MINUTE, ""),
        (MINUTE, "studio"),
    ]


async def test_what_is_not_seen_is_not_off(world: World) -> None:
    vmid = await world.container()
    await world.ledger.look()
    world.power[vmid] = Power.UNKNOWN
    await world.watch(2)
    world.power[vmid] = Power.ON
    await world.watch(1)
    world.power[vmid] = Power.OFF
    await world.watch(1)
    assert await world.kept() == [(vmid, NOW, NOW + 3 * MINUTE, "starter")]


async def test_another_process_goes_on_where_one_ended(world: World) -> None:
    vmid = await world.container()
    await world.ledger.look()
    await world.watch(2)
    world.ledger = world.open()
    await world.watch(2)
    # And one that was away for an hour counts nothing of that.
    world.now += timedelta(hours=1)
    world.ledger = world.open()
    await world.watch(2)
    world.power[vmid] = Power.OFF
    await world.watch(1)
    rows = await world.kept()
    assert [end - start for _, start, end, _ in rows] == [4 * MINUTE, MINUTE]


async def test_a_clock_that_is_set_back_counts_nothing_twice(world: World) -> None:
    vmid = await world.container()
    await world.ledger.look()
    await world.watch(10)
    world.power[vmid] = Power.OFF
    await world.watch(1)
    world.power[vmid] = Power.ON
    world.now = NOW + 2 * MINUTE
    await world.ledger.look()
    await world.watch(15)
    world.power[vmid] = Power.OFF
    await world.watch(1)
    rows = await world.kept()
    assert [(start, end) for _, start, end, _ in rows] == [
        (NOW, NOW + 10 * MINUTE),
        (NOW + 10 * MINUTE, NOW + 17 * MINUTE),
    ]


async def test_two_processes_at_once_write_each_interval_once(world: World) -> None:
    vmids = [await world.container(name) for name in ("ada", "bob", "cyd")]
    both = [world.open(), world.open()]
    for minute in range(8):
        if minute == 5:
            world.power[vmids[0]] = Power.OFF
        async with trio.open_nursery() as nursery:
            for one in both:
                nursery.start_soon(one.look)
        world.now += MINUTE
    for vmid in vmids:
        world.power[vmid] = Power.OFF
    async with trio.open_nursery() as nursery:
        for one in both:
            nursery.start_soon(one.look)
    rows = await world.kept()
    assert sorted((vmid, end - start) for vmid, start, end, _ in rows) == [
        (vmids[0], 4 * MINUTE),
        (vmids[1], 7 * MINUTE),
        (vmids[2], 7 * MINUTE),
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE container_hours SET plan = 'free'",
        "DELETE FROM container_hours",
        "TRUNCATE container_hours",
        "UPDATE container_hours SET plan = plan WHERE false",
    ],
)
async def test_what_is_written_is_changed_by_nobody(world: World, statement: str) -> None:
    vmid = await world.container()
    await world.ledger.look()
    await world.watch(1)
    world.power[vmid] = Power.OFF
    await world.watch(1)
    before = await world.kept()
    try:
        await world.database.run(lambda connection: connection.execute(sa.text(statement)) and None)
    except sa.exc.DBAPIError as error:
        told = str(error)
    else:
        told = ""
    # What names no row changes none.
    assert ("append-only" in told) == ("false" not in statement)
    assert await world.kept() == before


async def test_the_export_is_whole_however_long_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "PAGE", 7)
    mine, other = await world.container("ada"), await world.container("bob")
    for _ in range(10):
        world.power |= {mine: Power.ON, other: Power.ON}
        await world.watch(3)
        world.power |= {mine: Power.OFF, other: Power.OFF}
        await world.watch(1)
    lines = await world.csv()
    assert len(lines) == 20
    assert [int(line["id"]) for line in lines] == sorted({int(line["id"]) for line in lines})
    assert sum(int(line["seconds"]) for line in lines) == 20 * 120
    ada = world.rows[mine].owner_id
    assert {line["vmid"] for line in await world.csv(account_id=ada)} == {str(mine)}
    first = lines[0]
    assert first == {
        "id": first["id"],
        "account": str(ada),
        "vmid": str(mine),
        "type": "game",
        "plan": "starter",
        "started": "2026-03-01T12:01:00Z",
        "ended": "2026-03-01T12:03:00Z",
        "seconds": "120",
    }
    # The end of the time is not part of it.
    began = datetime(2026, 3, 1, 12, 1, tzinfo=UTC)
    assert len(await world.csv(began, began + 4 * MINUTE)) == 2
    assert len(await world.csv(began, began + 5 * MINUTE)) == 4


async def test_an_export_of_nothing_is_a_header(world: World) -> None:
    assert [part async for part in world.ledger.export(*EVER)] == [
        b"id,account,vmid,type,plan,started,ended,seconds\r\n"
    ]
