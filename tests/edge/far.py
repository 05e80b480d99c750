"""A target in memory that keeps state and fails on demand, and a fleet of publications."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from zlh.drivers.errors import DriverError, Unreachable
from zlh.model.access import Sight
from zlh.model.containers import ContainerType
from zlh.model.edge import Change, Entry, Found, Key, Publication, Stage, Verb

ZONE = "zlh.test"


def publication(vmid: int, **changes: object) -> Publication:
    made = Publication(
        vmid=vmid,
        owner_id=1,
        ctype=ContainerType.GAME,
        software="terraria",
        variant="vanilla",
        hostname=f"ct-{vmid}.{ZONE}",
        address=f"10.0.0.{vmid % 250}",
        node="pve1",
        ports=(7777,),
        stage=Stage.PUBLISHED,
        serving=True,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


class Vmids:
    def __init__(self) -> None:
        self.waiting: set[int] = set()
        self.wake = trio.Event()

    def __aiter__(self) -> Vmids:
        return self

    async def __anext__(self) -> set[int]:
        await self.wake.wait()
        self.wake = trio.Event()
        vmids, self.waiting = self.waiting, set()
        return vmids


class FakeFleet:
    def __init__(self, *publications: Publication) -> None:
        self.rows = {one.vmid: one for one in publications}
        self._vmids: list[Vmids] = []

    def put(self, one: Publication) -> None:
        self.rows[one.vmid] = one
        self._tell(one.vmid)

    def drop(self, vmid: int) -> None:
        self.rows.pop(vmid, None)
        self._tell(vmid)

    def publications(self) -> Iterable[Publication]:
        return list(self.rows.values())

    def publication(self, vmid: int) -> Publication | None:
        return self.rows.get(vmid)

    @asynccontextmanager
    async def changes(self, _sight: Sight) -> AsyncIterator[Vmids]:
        vmids = Vmids()
        self._vmids.append(vmids)
        yield vmids

    def _tell(self, vmid: int) -> None:
        for vmids in self._vmids:
            vmids.waiting.add(vmid)
            vmids.wake.set()


class NoNumbers:
    async def assign(self, one: Publication) -> Publication:
        return one

    def problem(self, vmid: int) -> str | None:
        return None

    def forget(self, vmid: int) -> None:
        pass

    def hopeful(self) -> Iterable[int]:
        return ()


class MemoryClaims:
    """What a database keeps, over restarts too."""

    def __init__(self) -> None:
        self.rows: dict[Key, Entry] = {}

    async def load(self) -> list[Entry]:
        await trio.lowlevel.checkpoint()
        return list(self.rows.values())

    async def claim(self, entries: Sequence[Entry]) -> None:
        await trio.lowlevel.checkpoint()
        self.rows |= {entry.key: entry for entry in entries}

    async def release(self, keys: Sequence[Key]) -> None:
        await trio.lowlevel.checkpoint()
        for key in keys:
            self.rows.pop(key, None)


def address_entries(one: Publication) -> Sequence[Entry] | None:
    if one.serving is None:
        return None
    return [Entry(one.vmid, "A", one.hostname, one.address, 60)] if one.address else []


class MemoryTarget:
    """`marks`: whether it keeps our mark. `fail` is raised by every call while it is set; `deaf` says yes and does
    nothing; after `fail_after` more changes it goes away; `lose_answer` once; `refuses` are names; `seconds` a call
    takes."""

    kind = "memory"
    batch = 50
    per_second = 1000.0

    def __init__(self, *, marks: bool = True) -> None:
        self.marks = marks
        self.there: dict[Key, Found] = {}
        self.fail: DriverError | None = None
        self.fail_after: int | None = None
        self.lose_answer = False
        self.deaf = False
        self.refuses: set[str] = set()
        self.seconds = 0.0
        self.looks: list[Collection[str] | None] = []
        self.applied: list[Change] = []

    def put(self, entry: Entry, *, mine: bool) -> None:
        kept = entry if mine and self.marks else replace(entry, vmid=0)
        self.there[entry.key] = Found(kept, mine if self.marks else None)

    async def look(self, names: Collection[str] | None) -> Sequence[Found]:
        await trio.sleep(self.seconds)
        self.looks.append(names)
        if self.fail is not None:
            raise self.fail
        return [one for one in self.there.values() if names is None or one.entry.name in names]

    async def apply(self, changes: Sequence[Change]) -> Sequence[str | None]:
        await trio.sleep(self.seconds)
        assert len(changes) <= self.batch
        answers = []
        for change in changes:
            if self.fail is not None or self.fail_after == 0:
                raise self.fail or Unreachable("it went away in the middle")
            if self.fail_after is not None:
                self.fail_after -= 1
            answers.append(self._apply(change))
        if self.lose_answer:
            self.lose_answer = False
            raise Unreachable("it closed the connection without an answer", may_have_happened=True)
        return answers

    def _apply(self, change: Change) -> str | None:
        if change.entry.name in self.refuses:
            return "the zone is read-only"
        self.applied.append(change)
        if self.deaf:
            return None
        gone = change.entry if change.verb is Verb.REMOVE else change.before
        if gone is not None:
            self.there.pop(gone.key, None)
        if change.verb is not Verb.REMOVE:
            self.put(change.entry, mine=True)
        return None

    async def aclose(self) -> None:
        pass
