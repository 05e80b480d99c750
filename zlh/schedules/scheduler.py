"""Carries out what is due, each run by one process, however many of them there are.

The rules: of several times that passed while nobody was there, the newest is carried out and the others are `missed`,
as the newest is where it is too late for it (`zlh.model.schedules.too_late`); a time that comes while the run before
is under way is `skipped`; a run whose process went away is `lost`, and tried once more where that can do no harm
(`zlh.model.schedules.again`).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import trio

from zlh.model.schedules import Outcome
from zlh.schedules.ledger import PAUSE_SECONDS, Ledger
from zlh.store import StoreUnavailable
from zlh.store.schedule_runs import LOST, Claim, Ending, Taken

log = logging.getLogger("zlh.schedules")

AT_ONCE: Final = 1024
"""Runs under way; most of them wait for a backup, or for their turn to make one."""

BATCH: Final = 128
"""Runs taken in one transaction."""

LEASE: Final = timedelta(seconds=90)
RENEW_SECONDS: Final = 20.0

BEAT_SECONDS: Final = 30.0
"""How late the clock's jumps are noticed, and what a lost nudge costs."""

LEAST_SECONDS: Final = 0.5
"""Between two looks, unless there is more to take."""

LAST_WORDS_SECONDS: Final = 3.0


class Work(Protocol):
    async def carry_out(self, taken: Taken) -> Ending: ...


@dataclass(eq=False, slots=True)
class _Running:
    taken: Taken
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Scheduler:
    """One timer for all schedules. `now` has a time zone; `annotate` shows figures to operators: running, due (taken
    by the last look), next (when the next look is planned), done since the start."""

    def __init__(
        self,
        ledger: Ledger,
        work: Work,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._ledger = ledger
        self._work = work
        self._now = now
        self._news = trio.Event()
        self._owner = ""
        self._running: dict[int, _Running] = {}
        self._done = 0

    async def run(self, annotate: Callable[..., None]) -> None:
        """Runs until cancelled."""
        # Another one after a crash, too: what the former one had claimed nobody works on.
        self._owner = secrets.token_hex(8)
        self._running = {}
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ledger.hear, self._nudge)
                nursery.start_soon(self._renew)
                while True:
                    # Before looking: news that come while we look are news.
                    self._news = trio.Event()
                    pause = await self._look(nursery, annotate)
                    with trio.move_on_after(pause):
                        await self._news.wait()
        finally:
            with trio.move_on_after(LAST_WORDS_SECONDS, shield=True):
                await self._let_go()

    def _nudge(self) -> None:
        self._news.set()

    async def _look(self, nursery: trio.Nursery, annotate: Callable[..., None]) -> float:
        """Takes what is due; how long there is nothing to do, in seconds."""
        most = min(AT_ONCE - len(self._running), BATCH)
        if most <= 0:
            return BEAT_SECONDS
        try:
            found = await self._ledger.take(self._claim(), most)
        except StoreUnavailable as error:
            log.warning("schedules wait for the database: %s", error)
            annotate(running=len(self._running), waits_for=str(error))
            return PAUSE_SECONDS
        for taken in found.taken:
            running = self._running[taken.run.id] = _Running(taken)
            nursery.start_soon(self._carry_out, running)
        annotate(
            running=len(self._running),
            due=len(found.taken),
            next=None if found.look_at is None else found.look_at.isoformat(timespec="seconds"),
            done=self._done,
            waits_for=None,
        )
        if len(found.taken) == most:
            return 0.0
        if found.look_at is None:
            return BEAT_SECONDS
        coming = (found.look_at - self._now()).total_seconds()
        # What somebody else is about to take stays due for a moment.
        return min(max(coming, LEAST_SECONDS), BEAT_SECONDS)

    async def _carry_out(self, running: _Running) -> None:
        taken, owner = running.taken, self._owner
        with running.scope:
            ending = await self._work_on(taken)
            if not await self._ledger.end(taken.run.id, owner, ending, self._now()):
                log.warning("run %d of schedule %s was taken over", taken.run.id, taken.schedule.id)
        self._running.pop(taken.run.id, None)
        self._done += 1
        self._nudge()

    async def _work_on(self, taken: Taken) -> Ending:
        try:
            ending = await self._work.carry_out(taken)
        except Exception:
            # A bug: it ends this run, not those of others.
            log.exception("run %d of schedule %s met a bug", taken.run.id, taken.schedule.id)
            return Ending(Outcome.FAILED, "it met a bug; it was recorded")
        schedule, why = taken.schedule, f": {ending.error}" if ending.error else ""
        told = (schedule.vmid, schedule.wish.action, schedule.id, ending.outcome, why)
        log.info("container %s: %s by schedule %s: %s%s", *told)
        return ending

    async def _renew(self) -> None:
        while True:
            await trio.sleep(RENEW_SECONDS)
            held = list(self._running)
            if not held:
                continue
            try:
                ours = await self._ledger.renew(held, self._claim())
            except StoreUnavailable as error:
                log.warning("the claims on runs of schedules could not be renewed: %s", error)
                continue
            for run_id in held:
                # Its schedule was deleted, or somebody thought that we are gone.
                if run_id not in ours and (running := self._running.get(run_id)) is not None:
                    running.scope.cancel()

    async def _let_go(self) -> None:
        """What can be begun anew waits for the next process; the rest ends here, for nobody will know more."""
        left = [running.taken for running in self._running.values()]
        again = [taken.run.id for taken in left if taken.schedule.wish.action.repeatable]
        try:
            if again:
                await self._ledger.let_go(again, self._owner)
            for taken in left:
                if taken.run.id not in again:
                    await self._ledger.end(taken.run.id, self._owner, Ending(Outcome.LOST, LOST), self._now())
        except StoreUnavailable as error:
            log.warning("runs of schedules end as lost when their claims do: %s", error)

    def _claim(self) -> Claim:
        now = self._now()
        return Claim(self._owner, now, now + LEASE)
