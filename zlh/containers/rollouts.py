"""Agent updates over many containers: what operators may ask of a rollout, and the task that carries it out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
import trio

from actors import Context
from zlh.containers.agent_updates import LOOK_SECONDS, TELL, TRANSIENT, Agents, check, expect, look
from zlh.model.access import EVERYTHING_IN_SIGHT
from zlh.model.containers import Container, ContainerType, Lifecycle
from zlh.model.errors import AbsentError, InvalidError, ProblemError
from zlh.model.rollouts import (
    Again,
    Ended,
    Finish,
    Item,
    ItemState,
    Rest,
    Rollout,
    Tell,
    Work,
    judge_updating,
    next_step,
)
from zlh.store import Database, StoreUnavailable, rollouts

log = logging.getLogger("zlh.containers")

STORE_RETRY_SECONDS = 1.0

AlsoRecord = Callable[[sa.Connection, Rollout], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator asks for. `version` None: whatever each agent calls the latest; `vmids` and `ctype` None: all
    of them. `batch` containers at a time, and an end with more than `max_failures`."""

    version: str | None = None
    vmids: Collection[int] | None = None
    ctype: ContainerType | None = None
    batch: int = 5
    max_failures: int = 1


class Rollouts:
    """One rollout at a time, carried out by `run`, which adopts what an earlier process left. `now` gives Unix
    seconds. All refusals are ProblemErrors."""

    def __init__(self, db: Database, agents: Agents, now: Callable[[], float]) -> None:
        self._db = db
        self._agents = agents
        self._now = now
        self._asked = trio.Event()

    # What operators ask

    def plan(self, wish: Wish) -> tuple[Item, ...]:
        """What a rollout would find, as far as memory knows; nothing is asked or recorded. Raises InvalidError."""
        return tuple(self._foresee(row.vmid, wish) for row in self._chosen(wish))

    async def begin(self, wish: Wish, *, actor_id: int | None = None, also: AlsoRecord | None = None) -> Rollout:
        """Records a rollout, and in the same transaction whatever `also` writes; its task does the rest. Raises
        InvalidError, ConflictError "rollout_active"."""
        vmids = [row.vmid for row in self._chosen(wish)]

        def record(connection: sa.Connection) -> Rollout:
            rollout = rollouts.begin(
                connection,
                vmids,
                version=wish.version,
                batch=wish.batch,
                max_failures=wish.max_failures,
                now=self._time(),
                actor_id=actor_id,
            )
            if also is not None:
                also(connection, rollout)
            return rollout

        return await self._change(record)

    async def get(self, rollout_id: str) -> Rollout:
        """Raises AbsentError."""
        rollout = await self._db.run(rollouts.get, rollout_id)
        if rollout is None:
            raise AbsentError("there is no such rollout")
        return rollout

    async def page(self, *, before: str | None = None, limit: int = 50) -> list[Rollout]:
        """The newest first, with counts and without their containers."""
        return await self._db.run(rollouts.page, before=before, limit=limit)

    async def pause(self, rollout_id: str) -> Rollout:
        """Begins nothing new. Raises AbsentError, ConflictError "rollout_ended"; so do the next two."""
        return await self._change(lambda connection: rollouts.pause(connection, rollout_id, self._time()))

    async def resume(self, rollout_id: str) -> Rollout:
        return await self._change(lambda connection: rollouts.resume(connection, rollout_id, self._time()))

    async def cancel(self, rollout_id: str) -> Rollout:
        """It ends as soon as what was begun has ended."""
        return await self._change(lambda connection: rollouts.ask_to_cancel(connection, rollout_id, self._time()))

    async def _change(self, record: Callable[[sa.Connection], Rollout]) -> Rollout:
        try:
            return await self._db.run(record)
        finally:
            # Also where it is not known whether it was recorded.
            self._asked.set()

    def _chosen(self, wish: Wish) -> list[Container]:
        known = {row.vmid: row for row in self._agents.containers(EVERYTHING_IN_SIGHT)}
        unknown = sorted(set(wish.vmids or ()) - known.keys())
        if unknown:
            named = ", ".join(map(str, unknown[:20]))
            raise InvalidError.of(("vmids", f"there is no container {named}"))
        chosen = known if wish.vmids is None else {vmid: known[vmid] for vmid in sorted(set(wish.vmids))}
        fitting = [
            row
            for row in chosen.values()
            if wish.ctype in (None, row.ctype) and row.desired.lifecycle is Lifecycle.PRESENT
        ]
        if not fitting:
            raise InvalidError("there is no container of that kind")
        return fitting

    def _foresee(self, vmid: int, wish: Wish) -> Item:
        match expect(self._agents.server(vmid), wish.version):
            case Ended(state, reason, current):
                return Item(vmid, state, current, reason=reason)
            case Tell(current, target):
                return Item(vmid, current=current, target=target)
        return Item(vmid, reason="its agent has not told its version yet")

    def _time(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)

    # Carrying it out

    async def run(self, ctx: Context) -> None:
        """Never ends."""
        ctx.started()
        while True:
            self._asked = asked = trio.Event()
            try:
                rollout = await self._db.run(rollouts.active)
                goes_on = rollout is not None and await self._advance(ctx, rollout)
            except StoreUnavailable as error:
                log.warning("rollouts wait for the database: %s", error)
                await trio.sleep(STORE_RETRY_SECONDS)
                continue
            if not goes_on:
                ctx.annotate(rollout=None if rollout is None else rollout.id, updating=[])
                await asked.wait()

    async def _advance(self, ctx: Context, rollout: Rollout) -> bool:
        """One step; whether there may be a next one."""
        match next_step(rollout):
            case Finish(state, error):
                log.info("rollout %s %s%s", rollout.id, state, f": {error}" if error else "")
                await self._db.run(rollouts.finish, rollout.id, state, self._time(), error=error)
                return False
            case Rest():
                return False
            case Work(items):
                ctx.annotate(rollout=rollout.id, updating=[item.vmid for item in items])
                async with trio.open_nursery() as nursery:
                    for item in items:
                        nursery.start_soon(self._carry_on, rollout, item)
        return True

    async def _carry_on(self, rollout: Rollout, item: Item) -> None:
        try:
            if item.state is ItemState.PENDING:
                await self._begin_item(rollout, item)
            else:
                await self._follow(rollout, item)
        except StoreUnavailable as error:
            # What it has done is seen by the next look.
            log.warning("rollout %s, container %s: %s", rollout.id, item.vmid, error)

    async def _begin_item(self, rollout: Rollout, item: Item) -> None:
        verdict, ready = await check(self._agents, item.vmid, rollout.version)
        if isinstance(verdict, Ended):
            await self._end(rollout, item, verdict)
            return
        begun = await self._db.run(
            rollouts.begin_item,
            rollout.id,
            item.vmid,
            current=verdict.current,
            target=verdict.target,
            was_ready=ready,
            now=self._time(),
        )
        if begun is not None:
            await self._follow(rollout, *await self._tell(rollout, begun))

    async def _follow(self, rollout: Rollout, item: Item, refusal: str | None = None) -> None:
        """Looks until it has ended. An agent that may not have heard of it is told once a look has shown that; one
        that refused, for `refusal`, is not asked again."""
        while True:
            verdict = judge_updating(item, await look(self._agents, item.vmid), rollout.version, self._now())
            if refusal is not None:
                verdict = _refused(verdict, refusal)
            if isinstance(verdict, Ended):
                await self._end(rollout, item, verdict)
                return
            if isinstance(verdict, Tell):
                item, refusal = await self._tell(rollout, item)
            await trio.sleep(LOOK_SECONDS)

    async def _tell(self, rollout: Rollout, item: Item) -> tuple[Item, str | None]:
        """The line as it is then, and why the agent did not take it. Where that is not known, the next look tells."""
        try:
            await self._agents.call(item.vmid, TELL)
        except TRANSIENT:
            return item, None
        except ProblemError as problem:
            return item, problem.message
        return await self._db.run(rollouts.told, rollout.id, item.vmid, self._time()) or item, None

    async def _end(self, rollout: Rollout, item: Item, ended: Ended) -> None:
        if ended.state is ItemState.FAILED:
            log.warning("rollout %s, container %s: %s", rollout.id, item.vmid, ended.reason)
        await self._db.run(rollouts.end_item, rollout.id, item.vmid, ended, was=item.state, now=self._time())


def _refused(verdict: Tell | Again | Ended, refusal: str) -> Tell | Again | Ended:
    """An agent that refused is as it was; or it refused because it was told already, and goes on."""
    if isinstance(verdict, Tell) or (isinstance(verdict, Ended) and verdict.state is ItemState.FAILED):
        return Ended(ItemState.FAILED, f"it was refused: {refusal}")
    return verdict
