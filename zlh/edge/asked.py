"""A target that asks: it fetches one document now and then, and has what is in it from then on."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import orjson
import trio

from actors import Context
from zlh.edge.book import Book
from zlh.edge.difference import Difference
from zlh.edge.report import Report
from zlh.model.edge import Change, Entry, Lag, Publication, Stage, Verb

log = logging.getLogger("zlh.edge")

PATIENCE_POLLS = 3
UNASKED = "it has not asked since"


@dataclass(frozen=True, slots=True)
class Document:
    """`tag` is the strong ETag of the body, with its quotation marks."""

    body: bytes
    tag: str


class Asked:
    """An Outlet. `entries` says what is to be there for a container, `render` makes a document of all of them.
    `poll_seconds` is how often the target is to ask; one that missed three times is away. It does what it was told
    `settle_seconds` after our answer. What it has at our start nobody knows: nothing is withdrawn before it asked."""

    def __init__(
        self,
        name: str,
        book: Book,
        entries: Callable[[Publication], Sequence[Entry]],
        render: Callable[[Iterable[Entry]], object],
        *,
        poll_seconds: float,
        settle_seconds: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.progress: list[Callable[[int], None]] = []
        self._book = book
        self._entries = entries
        self._render = render
        self._poll = poll_seconds
        self._settle = settle_seconds
        self._now = now
        self._wanted: dict[int, tuple[Entry, ...]] = {}
        self._served: dict[int, tuple[Entry, ...]] = {}
        self._untold: set[int] = set()
        self._told: set[int] = set()  # of those, and nothing else was wanted since
        self._settled = False  # once after our start
        self._document: Document | None = None
        self._started = trio.current_time()
        self._asked: float | None = None  # Trio's clock
        self._asked_at: float | None = None  # Unix seconds
        self._calls = 0
        self._wake = trio.Event()
        book.follow(self.touch)

    # What others see

    def touch(self, vmid: int) -> None:
        publication = self._book.get(vmid)
        entries = tuple(self._entries(publication)) if publication is not None else ()
        if entries == self._wanted.get(vmid, ()):
            return
        self._wanted.pop(vmid, None)
        if entries:
            self._wanted[vmid] = entries
        self._untold.add(vmid)
        self._told.discard(vmid)
        self._document = None

    def document(self) -> Document | None:
        """For whoever asks now; None while not all containers are known, and nobody can say what is gone."""
        if not self._book.loaded.is_set():
            return None
        if self._document is None:
            body = orjson.dumps(self._render(entry for entries in self._wanted.values() for entry in entries))
            self._document = Document(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
        return self._document

    def fetched(self) -> None:
        """The target was just given the document, or told that it has it already."""
        self._calls += 1
        self._asked, self._asked_at = trio.current_time(), self._now()
        self._served = dict(self._wanted)
        self._wake.set()

    def lag(self, vmid: int) -> Lag | None:
        if vmid not in self._untold and (self._settled or not self._leaves(vmid)):
            return None
        if self._away():
            return Lag(self.name, self._silence(), soon=False)
        return Lag(self.name, "it asks soon", soon=True)

    def report(self) -> Report:
        away = self._away()
        wanted = {entry.key for entries in self._wanted.values() for entry in entries}
        served = [entry for entries in self._served.values() for entry in entries]
        return Report(
            name=self.name,
            kind=self.name,
            reachable=None if self._asked is None and not away else not away,
            synced_at=self._asked_at,
            wanted=len(wanted),
            actual=len(served) if self._asked is not None else None,
            owed=tuple(entry for entry in served if entry.key not in wanted),
            error=self._silence() if away else None,
            error_at=None,
            calls=self._calls,
        )

    async def preview(self) -> Difference:
        """What it does not know yet."""
        await trio.lowlevel.checkpoint()
        wanted = {entry.key: entry for entries in self._wanted.values() for entry in entries}
        served = {entry.key: entry for entries in self._served.values() for entry in entries}
        changes = [Change(Verb.ADD, wanted[key], UNASKED) for key in wanted.keys() - served.keys()]
        changes += [Change(Verb.REMOVE, served[key], UNASKED) for key in served.keys() - wanted.keys()]
        return Difference(tuple(changes))

    async def reconcile(self) -> Difference:
        """Nobody can make it ask: the document is made anew, and what it does not know is told."""
        for publication in self._book:
            self.touch(publication.vmid)
        self._document = None
        return await self.preview()

    async def sweep(self, orphans: Collection[Entry]) -> None:
        """It has nothing that is not in the document."""
        await trio.lowlevel.checkpoint()

    # The task

    async def run(self, ctx: Context) -> None:
        ctx.started()
        while True:
            with trio.move_on_after(self._poll):
                await self._wake.wait()
            heard = await self._heard() if self._wake.is_set() else set(self._untold)
            ctx.annotate(wanted=len(self._wanted), calls=self._calls, away=self._away())
            for vmid in heard:
                for listener in self.progress:
                    listener(vmid)

    async def _heard(self) -> set[int]:
        """Those of which the target now does what is wanted; after its first question also all that leave."""
        self._wake = trio.Event()
        self._told = {vmid for vmid in self._untold if self._served.get(vmid) == self._wanted.get(vmid)}
        await trio.sleep(self._settle)
        heard, self._told = self._told, set()
        self._untold -= heard
        if self._settled:
            return heard
        self._settled = True
        return heard | {publication.vmid for publication in self._book if self._leaves(publication.vmid)}

    def _leaves(self, vmid: int) -> bool:
        publication = self._book.get(vmid)
        return publication is not None and publication.stage is Stage.LEAVING

    def _away(self) -> bool:
        last = self._started if self._asked is None else self._asked
        return trio.current_time() - last > PATIENCE_POLLS * self._poll

    def _silence(self) -> str:
        if self._asked is None:
            return "it never asked"
        return f"it has not asked for {trio.current_time() - self._asked:.0f} s"
