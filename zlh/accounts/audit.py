"""The way into the audit record: an act is written before it is done and completed after it; what needs no database
is written when there is one.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
import trio

from zlh.accounts.attempts import Attempts, address_key
from zlh.model.accounts import Principal
from zlh.model.audit import Act, Ending, Outcome
from zlh.model.errors import TooManyError
from zlh.store import audit
from zlh.store.database import Database
from zlh.store.errors import StoreUnavailable

log = logging.getLogger(__name__)

MOST_WAITING = 20_000
"""Acts that wait for the database. More than a busy hour brings; about 20 MB."""
BATCH = 500
AGAIN_SECONDS = 1.0
PATIENCE_SECONDS = 5.0
LAST_WORDS_SECONDS = 1.0
LOST = "audit.lost"

# What is still to be written: an act with its end, or the end of a row that was begun.
Waiting = tuple[Act | int, Ending]


class AuditTrail:
    """`begin` and `complete` wait for the database, `note` never does. Where it is away, what waits stays in memory
    until it is back; when more waits than there is room for, the newest is left out, and the record says how many.
    `attempts` bounds what strangers may begin."""

    def __init__(
        self,
        database: Database,
        attempts: Attempts,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._database = database
        self._attempts = attempts
        self.now = now
        self._most_waiting = most_waiting
        self._waiting: deque[Waiting] = deque()
        self._wake = trio.Event()
        self._empty = trio.Event()
        self._lost = 0

    @property
    def waiting(self) -> int:
        """How many acts are still to be written."""
        return len(self._waiting)

    def may_begin(self, address: str) -> bool:
        """Whether a stranger at that address may begin another row now."""
        try:
            self._attempts.take(address_key(address))
        except TooManyError:
            return False
        return True

    def was_welcome(self, address: str) -> None:
        """What the stranger began was good, and does not count."""
        self._attempts.give_back(address_key(address))

    async def begin(self, act: Act) -> int:
        """Committed when this returns; the answer is for `complete`. Raises StoreUnavailable."""
        return await self._database.run(audit.begin, act)

    async def complete(self, begun: int, ending: Ending) -> None:
        """Once the act is over, also for a client who is gone by then. Where the database is away or slow, it is
        written later."""
        with trio.move_on_after(PATIENCE_SECONDS, shield=True) as patience:
            try:
                await self._database.run(audit.complete, begun, ending)
            except StoreUnavailable:
                self._keep(begun, ending)
        if patience.cancelled_caught:
            self._keep(begun, ending)

    def note(self, act: Act, ending: Ending) -> None:
        """An act that is over, written soon. Where the connection breaks during COMMIT, it may be told twice."""
        self._keep(act, ending)

    async def page(self, wanted: audit.Wanted) -> list[audit.Entry]:
        """What is written, the newest first. Raises StoreUnavailable."""
        return await self._database.run(audit.page, wanted)

    async def forget(self, before: datetime) -> int:
        """The retention: how many rows from before then went. Many small transactions, never a long one. Raises
        StoreUnavailable."""
        forgotten = 0
        while batch := await self._database.run(audit.forget, before):
            forgotten += batch
        return forgotten

    async def flushed(self) -> None:
        """Returns once nothing waits any more."""
        while self._waiting or self._lost:
            await self._empty.wait()

    async def run(self) -> None:
        """Writes what waits; runs until cancelled, and then writes what it can within a second."""
        try:
            while True:
                await self._write_all()
                await self._wake.wait()
        finally:
            with trio.move_on_after(LAST_WORDS_SECONDS, shield=True):
                await self._write_all()

    def _keep(self, what: Act | int, ending: Ending) -> None:
        if len(self._waiting) >= self._most_waiting:
            self._lost += 1
        else:
            self._waiting.append((what, ending))
        self._wake.set()

    async def _write_all(self) -> None:
        self._wake = trio.Event()
        most = BATCH
        while self._waiting:
            batch = list(itertools.islice(self._waiting, most))
            try:
                await self._database.run(_write, batch)
            except StoreUnavailable as error:
                log.warning("%d acts wait to be written into the audit record: %s", len(self._waiting), error)
                await trio.sleep(AGAIN_SECONDS)
                continue
            except sa.exc.SQLAlchemyError:
                # One of them can never be written: alone it takes no others with it, and holds them up only once.
                if len(batch) > 1:
                    most = 1
                    continue
                log.exception("an act is missing from the audit record")
                self._lost += _acts(*batch[0])
                most = BATCH
                # Where nothing at all can be written, that is said once a second and not as fast as it goes.
                await trio.sleep(AGAIN_SECONDS)
            for _ in batch:
                self._waiting.popleft()
            self._tell_lost()
        empty, self._empty = self._empty, trio.Event()
        empty.set()

    def _tell_lost(self) -> None:
        lost, self._lost = self._lost, 0
        if lost:
            act = Act(at=self.now(), action=LOST, credential="none", details={"lost": lost})
            self._waiting.append((act, Ending(outcome=Outcome.FAILED)))


def credential_of(principal: Principal) -> str:
    """What was used, as the record names it."""
    if principal.acting is not None:
        return f"acting:{principal.session_id}"
    return principal.session_id if principal.scopes is not None else f"session:{principal.session_id}"


def _acts(what: Act | int, _ending: Ending) -> int:
    """How many are missing where this is."""
    lost = what.details["lost"] if isinstance(what, Act) and what.action == LOST else 1
    assert isinstance(lost, int)
    return lost


def _write(connection: sa.Connection, batch: Sequence[Waiting]) -> None:
    for what, ending in batch:
        if isinstance(what, Act):
            audit.record(connection, what, ending)
        else:
            audit.complete(connection, what, ending)
