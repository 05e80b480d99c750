"""Keeps one target as it is wanted: looks, compares, repairs, and looks again. Nothing counts as done before it was
seen."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import trio

from actors import Context
from zlh.drivers.errors import DriverError, Invalid, Unreachable
from zlh.edge.book import Book
from zlh.edge.difference import Blocked, Difference, compare
from zlh.edge.ledger import Ledger
from zlh.edge.pace import Pace
from zlh.edge.report import Repair, Report
from zlh.edge.wishes import Wishes
from zlh.model.edge import Change, Entry, Found, Key, Lag, Publication, Stage, System, Verb
from zlh.store import StoreUnavailable

log = logging.getLogger("zlh.edge")

GATHER_SECONDS = 0.05
"""After a change, for those that come with it."""

MANY = 200
"""Containers at once for which everything is looked at, instead of name by name."""

PATIENCE_SECONDS = 10.0
"""So long somebody who provisions or tears down waits for a target that answers."""

ATTEMPT_SECONDS = 60.0
"""For one look, or one batch of changes, whatever the driver thinks."""

BACKOFF_SECONDS = 1.0
BACKOFF_CAP_SECONDS = 60.0
REPAIRS_KEPT = 100


class Sync:
    """The Outlet for a system that is told. `name` is unique and stays: what was made is recorded under it. `entries`
    says what is to be there for a container that is published, None where it is to stay as it is. `now` gives Unix
    seconds; `repaired` hears of changes that nobody had asked for."""

    def __init__(
        self,
        name: str,
        system: System,
        entries: Callable[[Publication], Sequence[Entry] | None],
        book: Book,
        ledger: Ledger,
        *,
        beat_seconds: float,
        repaired: Callable[[str, Sequence[Change]], None] = lambda _target, _changes: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self._system = system
        self._wanted = entries
        self._book = book
        self._ledger = ledger
        self._beat = beat_seconds
        self._repaired = repaired
        self._now = now
        self.progress: list[Callable[[int], None]] = []
        self._wishes = Wishes()
        self._dirty: dict[int, float] = {}  # to be looked at, since when
        self._held: set[int] = set()  # left as they are
        self._touched: set[int] = set()  # since the last look
        self._asked: set[int] = set()  # those whose wishes became others since they were settled
        self._everything = True
        self._begun: float | None = None
        self._wake = trio.Event()
        self._turn = trio.Lock()
        self._blocked: dict[int, tuple[Blocked, ...]] = {}
        self._refused: dict[Key, tuple[int, str]] = {}
        self._orphans: tuple[Entry, ...] = ()
        self._actual: int | None = None
        self._synced_at: float | None = None
        self._error: str | None = None
        self._error_at: float | None = None
        self._failures = 0
        self._calls = 0
        self._repairs: deque[Repair] = deque(maxlen=REPAIRS_KEPT)
        self._pace = Pace(system.per_second, max(system.batch, int(system.per_second)))
        book.follow(self.touch)

    # What others see

    def touch(self, vmid: int) -> None:
        entries = self._entries(vmid)
        if entries is None:
            self._held.add(vmid)
            self._wishes.put(vmid, ())
            return
        if vmid not in self._held and entries == self._wishes.of(vmid) and (entries or not self._ledger.of(vmid)):
            return
        self._held.discard(vmid)
        # What was refused is tried again when something else is wanted.
        self._refused = {key: one for key, one in self._refused.items() if one[0] != vmid}
        self._wishes.put(vmid, entries)
        self._soil(vmid)
        self._touched.add(vmid)
        self._asked.add(vmid)
        self._wake.set()

    def _entries(self, vmid: int) -> tuple[Entry, ...] | None:
        """What is to be there of a container, None where it is to be left as it is."""
        publication = self._book.get(vmid)
        if publication is None or publication.stage in (Stage.LEAVING, Stage.SUSPENDED):
            return ()
        if publication.stage is Stage.MAKING:
            return None
        entries = self._wanted(publication)
        return None if entries is None else tuple(entries)

    def lag(self, vmid: int) -> Lag | None:
        since = self._dirty.get(vmid, self._begun if self._synced_at is None else None)
        waits = since is not None or self._synced_at is None
        if self._error is not None:
            return Lag(self.name, self._error, soon=False) if waits else None
        if waits:
            late = since is not None and trio.current_time() - since > PATIENCE_SECONDS
            return Lag(self.name, "it takes its time" if late else "it is being told", soon=not late)
        for owner, problem in self._refused.values():
            if owner == vmid:
                return Lag(self.name, problem, soon=False)
        if vmid in self._blocked:
            return Lag(self.name, f"{self._blocked[vmid][0].entry.name} is somebody else's there", soon=False)
        return None

    def report(self) -> Report:
        wanted = self._wishes.keys
        return Report(
            name=self.name,
            kind=self._system.kind,
            reachable=None if self._synced_at is None and self._error is None else self._error is None,
            synced_at=self._synced_at,
            wanted=len(wanted),
            actual=self._actual,
            owed=tuple(one for one in self._ledger.entries() if one.key not in wanted and one.vmid not in self._held),
            blocked=tuple(one for blocked in self._blocked.values() for one in blocked),
            orphans=self._orphans,
            refused={" ".join(key): problem for key, (_vmid, problem) in self._refused.items()},
            error=self._error,
            error_at=self._error_at,
            calls=self._calls,
            repairs=tuple(self._repairs),
        )

    async def preview(self) -> Difference:
        async with self._my_turn():
            return self._compare(await self._look(None), None)

    async def reconcile(self) -> Difference:
        async with self._my_turn():
            self._everything = True
            return await self._catch_up()

    async def sweep(self, orphans: Collection[Entry]) -> None:
        keys = {entry.key for entry in orphans}
        async with self._my_turn():
            difference = self._compare(await self._look(None), None)
            swept = [entry for entry in difference.orphans if entry.key in keys]
            # From now on this database knows of them: what becomes of a sweep that broke off is an ordinary removal.
            await self._ledger.claim(swept)
            self._everything = True
            await self._catch_up()

    @asynccontextmanager
    async def _my_turn(self) -> AsyncIterator[None]:
        """Nobody else looks or changes anything meanwhile, and what is ours is known. Whoever asked may give up in
        the middle: the task goes on with what is left then, without waiting for the beat."""
        await self._book.loaded.wait()
        async with self._turn:
            try:
                await self._load()
                yield
            finally:
                if self._everything or self._dirty:
                    self._wake.set()

    # The task

    async def run(self, ctx: Context) -> None:
        ctx.started()
        if self._begun is None:
            self._begun = trio.current_time()
        await self._book.loaded.wait()
        while True:
            try:
                async with self._my_turn():
                    await self._catch_up()
            except (DriverError, StoreUnavailable) as error:
                self._failed(error)
            ctx.annotate(wanted=len(self._wishes.keys), actual=self._actual, error=self._error)
            await self._rest()

    async def _load(self) -> None:
        """Raises StoreUnavailable."""
        if self._ledger.sure:
            return
        await self._ledger.load()
        for publication in self._book:
            self.touch(publication.vmid)

    async def _rest(self) -> None:
        """Until the next change, the beat, or the next attempt. What happened during an outage nobody told us."""
        if self._failures:
            longest = min(BACKOFF_CAP_SECONDS, BACKOFF_SECONDS * 2 ** (self._failures - 1))
            await trio.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - jitter, not a secret
            self._everything = True
            return
        with trio.move_on_after(self._beat) as beat:
            await self._wake.wait()
        self._wake = trio.Event()
        self._everything |= beat.cancelled_caught
        await trio.sleep(GATHER_SECONDS)

    async def _catch_up(self) -> Difference:
        """Until all is as wanted; what was changed for it. Raises DriverError, StoreUnavailable."""
        made: dict[Key, Change] = {}
        blocked: tuple[Blocked, ...] = ()
        if self._everything:
            self._refused = {}
        while self._everything or self._dirty:
            everything, vmids = self._everything, set(self._dirty)
            self._touched.clear()
            names = None if everything or len(vmids) > MANY else self._names_of(vmids)
            found = await self._look(names)
            await self._release(found, names)
            difference = self._compare(found, names)
            if names is None:
                self._orphans = difference.orphans
            changes = [change for change in difference.changes if change.entry.key not in self._refused]
            if any(made.get(change.entry.key) == change for change in changes):
                raise Invalid("it took the changes, but does not show them")
            made |= {change.entry.key: change for change in changes}
            await self._apply(changes)
            for change in changes:
                self._soil(change.entry.vmid)
            self._everything = False
            if not changes:
                blocked = difference.blocked
                self._settle(difference, vmids, names)
        self._succeeded()
        return Difference(tuple(made.values()), blocked, self._orphans)

    def _names_of(self, vmids: Collection[int]) -> set[str]:
        wanted = {entry.name for vmid in vmids for entry in self._wishes.of(vmid)}
        return wanted | {entry.name for vmid in vmids for entry in self._ledger.of(vmid)}

    async def _look(self, names: Collection[str] | None) -> list[Found]:
        if names is not None and not names:
            return []
        self._calls += 1
        with _in_time():
            found = await self._system.look(names)
        return [self._known(one) for one in found]

    def _known(self, one: Found) -> Found:
        """Whose entry it is, where only the ledger knows."""
        claimed = None if one.entry.vmid else self._ledger.get(one.entry.key)
        return one if claimed is None else Found(replace(one.entry, vmid=claimed.vmid), one.mine)

    def _compare(self, found: Sequence[Found], names: Collection[str] | None) -> Difference:
        return compare(
            self._wishes if names is None else self._wishes.at(names),
            found,
            claimed=self._ledger.keys,
            held=self._held,
            known=self._book.known,
        )

    async def _release(self, found: Sequence[Found], names: Collection[str] | None) -> None:
        """What was looked for, is not there and is not wanted is nobody's any more."""
        present, wanted = {one.entry.key for one in found}, self._wishes.keys
        looked_at = self._ledger.entries() if names is None else self._ledger.at(names)
        await self._ledger.release(
            entry.key for entry in looked_at if entry.key not in present and entry.key not in wanted
        )

    async def _apply(self, changes: Sequence[Change]) -> None:
        """What is made is claimed first. Refusals are kept with their reasons."""
        await self._ledger.claim(change.entry for change in changes if change.verb is not Verb.REMOVE)
        made: list[Change] = []
        try:
            for start in range(0, len(changes), self._system.batch):
                made += await self._make(changes[start : start + self._system.batch])
        finally:
            self._remember_repairs(made)

    async def _make(self, batch: Sequence[Change]) -> list[Change]:
        """Those of them that were made."""
        await self._pace.take(len(batch))
        self._calls += 1
        with _in_time():
            answers = await self._system.apply(batch)
        for change, problem in zip(batch, answers, strict=True):
            log.info("%s: %s %s: %s", self.name, change.verb, change.entry, problem or change.reason)
            if problem is not None:
                self._refused[change.entry.key] = (change.entry.vmid, problem)
        return [change for change, problem in zip(batch, answers, strict=True) if problem is None]

    def _remember_repairs(self, made: Sequence[Change]) -> None:
        unasked = [change for change in made if change.entry.vmid not in self._asked]
        self._repairs.extend(Repair(self._now(), change) for change in unasked)
        if unasked:
            self._repaired(self.name, unasked)

    def _settle(self, difference: Difference, vmids: set[int], names: Collection[str] | None) -> None:
        """Nothing is left to be changed of what was looked at: takes down what is known now."""
        if names is None:
            self._blocked.clear()
        for vmid in vmids:
            self._blocked.pop(vmid, None)
        for one in difference.blocked:
            self._blocked[one.entry.vmid] = (*self._blocked.get(one.entry.vmid, ()), one)
        settled = vmids - self._touched
        for vmid in settled:
            self._dirty.pop(vmid, None)
        self._asked -= settled
        self._actual = len(self._ledger.keys)
        self._synced_at = self._now()
        self._error = None
        for vmid in settled:
            self._tell(vmid)

    def _soil(self, vmid: int) -> None:
        self._dirty.setdefault(vmid, trio.current_time())

    def _succeeded(self) -> None:
        if self._failures:
            log.info("%s is as wanted again", self.name)
        self._failures = 0
        self._error = None

    def _failed(self, error: Exception) -> None:
        if not self._failures:
            log.warning("%s is behind: %s", self.name, error)
        self._failures += 1
        self._error, self._error_at = str(error), self._now()
        for vmid in self._dirty:
            self._tell(vmid)

    def _tell(self, vmid: int) -> None:
        for listener in self.progress:
            listener(vmid)


@contextmanager
def _in_time() -> Iterator[None]:
    try:
        with trio.fail_after(ATTEMPT_SECONDS):
            yield
    except trio.TooSlowError:
        raise Unreachable(f"no answer within {ATTEMPT_SECONDS:g} s", may_have_happened=True) from None
