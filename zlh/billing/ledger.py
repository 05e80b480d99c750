"""Keeps the ledger of hours that containers ran: once a minute, what is seen to run is written down."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
import trio

from zlh.billing.hours import advance
from zlh.billing.reconciler import Machines
from zlh.model.container_hours import Running
from zlh.model.containers import Power
from zlh.store import StoreUnavailable, accounts, container_hours
from zlh.store.container_hours import Row
from zlh.store.database import Database

log = logging.getLogger("zlh.billing")

BEAT_SECONDS: Final = 60.0
PAGE: Final = 1000
COLUMNS: Final = ("id", "account", "vmid", "type", "plan", "started", "ended", "seconds")


class Ledger:
    def __init__(self, database: Database, machines: Machines, now: Callable[[], datetime]) -> None:
        self._database = database
        self._machines = machines
        self._now = now

    async def run(self, annotate: Callable[..., None]) -> None:
        """Runs until cancelled."""
        while True:
            try:
                annotate(running=await self.look())
            except StoreUnavailable as error:
                log.warning("the ledger waits for the database: %s", error)
            await trio.sleep(BEAT_SECONDS)

    async def look(self) -> int:
        """Writes down what runs at this moment; how many containers that are. Raises StoreUnavailable."""
        machines = self._machines()
        on = [machine.row for machine in machines if machine.power is Power.ON]
        # Unknown is not off: what was not seen decides nothing yet.
        unknown = {machine.row.vmid for machine in machines if machine.power is Power.UNKNOWN}
        # Whole seconds, so that the rows' seconds sum up to the time between their ends.
        now = self._now().replace(microsecond=0)

        def write(connection: sa.Connection) -> int:
            if not container_hours.hold(connection):
                return 0
            plans = accounts.plans(connection)
            before = container_hours.open_intervals(connection)
            running = [Running(row.vmid, row.owner_id, row.ctype, plans.get(row.owner_id) or "") for row in on]
            closed, after = advance(before, running, now, unknown, container_hours.counted(connection, now))
            container_hours.write(connection, closed, after.values())
            return len(after)

        return await self._database.run(write)

    async def export(
        self, since: datetime, until: datetime, *, account_id: int | None = None
    ) -> AsyncIterator[bytes]:
        """As CSV, a header and one line an interval; times in UTC. Raises StoreUnavailable."""
        yield _lines([COLUMNS])
        after = 0
        while True:

            def read(connection: sa.Connection, after: int = after) -> list[Row]:
                return list(
                    container_hours.page(connection, since, until, account_id=account_id, after=after, limit=PAGE)
                )

            rows = await self._database.run(read)
            if not rows:
                return
            yield _lines([_fields(row) for row in rows])
            after = rows[-1].id


def _fields(row: Row) -> tuple[object, ...]:
    what, started, ended = row.interval.what, row.interval.started_at, row.interval.ended_at
    seconds = round((ended - started).total_seconds())
    return (row.id, what.account_id, what.vmid, what.ctype.value, what.plan, _utc(started), _utc(ended), seconds)


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _lines(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
