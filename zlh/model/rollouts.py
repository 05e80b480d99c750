"""Rollouts: updating the agents of many containers, batch by batch. Pure: what comes next, and what a look means.

A rollout begins a batch, waits until each of its containers has ended somehow, and only then begins the next. A
container's line is written before its agent is told to update; whoever finds it like that after a crash looks at the
agent first, so that nothing is updated twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from zlh.model.observed import Update

UPDATE_SECONDS = 300.0
"""How long an agent may take, from the moment that it was to be told, to be back with the new version and ready."""


class RolloutState(StrEnum):
    """PAUSED begins nothing new until somebody says so; what it has begun is followed to its end all the same."""

    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self not in (RolloutState.RUNNING, RolloutState.PAUSED)


class ItemState(StrEnum):
    """UPDATING is written before the agent is told. SKIPPED: nothing was done to it, or it is gone."""

    PENDING = "pending"
    UPDATING = "updating"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def final(self) -> bool:
        return self not in (ItemState.PENDING, ItemState.UPDATING)


@dataclass(frozen=True, slots=True)
class Item:
    """One container's line. `current` and `target` are versions of its agent, before and after; `was_ready` is
    whether its game or IDE was ready before, for then it has to be again. `told_at`: the agent took the update."""

    vmid: int
    state: ItemState = ItemState.PENDING
    current: str | None = None
    target: str | None = None
    was_ready: bool = False
    reason: str | None = None
    started_at: datetime | None = None
    told_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """`version` is the one to come to; None: whatever each agent calls the latest. It ends with more failures than
    `max_failures`. `counts` is how many containers are in which state, also where `items` were not read."""

    id: str
    state: RolloutState
    version: str | None
    batch: int
    max_failures: int
    created_at: datetime
    updated_at: datetime
    actor_id: int | None = None
    cancel_asked_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    items: tuple[Item, ...] = ()
    counts: Mapping[ItemState, int] = field(default_factory=dict)

    @property
    def failures(self) -> int:
        return self.counts.get(ItemState.FAILED, 0)

    @property
    def may_begin(self) -> bool:
        """Whether one more container may be told to update."""
        return (
            self.state is RolloutState.RUNNING and self.cancel_asked_at is None and self.failures <= self.max_failures
        )


def counts_of(items: tuple[Item, ...]) -> dict[ItemState, int]:
    return dict(Counter(item.state for item in items))


@dataclass(frozen=True, slots=True)
class Work:
    """Carry these on side by side, each to its end."""

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    state: RolloutState
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing, until somebody resumes or cancels it."""


Step = Work | Finish | Rest


def next_step(rollout: Rollout) -> Step:
    """What is to be done with a rollout that is not final. What was begun comes first, whatever else is the case."""
    begun = tuple(item for item in rollout.items if item.state is ItemState.UPDATING)
    if begun:
        return Work(begun[: rollout.batch])
    if rollout.failures > rollout.max_failures:
        return Finish(RolloutState.FAILED, f"{rollout.failures} updates failed, {rollout.max_failures} may")
    pending = tuple(item for item in rollout.items if item.state is ItemState.PENDING)
    if not pending:
        return Finish(RolloutState.SUCCEEDED)
    if rollout.cancel_asked_at is not None:
        return Finish(RolloutState.CANCELLED)
    if rollout.state is RolloutState.PAUSED:
        return Rest()
    return Work(pending[: rollout.batch])


@dataclass(frozen=True, slots=True)
class Tell:
    """The agent is to be told to update, and will then be `target`."""

    current: str
    target: str


@dataclass(frozen=True, slots=True)
class Again:
    """Look again later."""


@dataclass(frozen=True, slots=True)
class Ended:
    """`current` is the version that the agent has then, where it is known."""

    state: ItemState
    reason: str | None = None
    current: str | None = None


def judge_pending(update: Update, wanted: str | None) -> Tell | Ended:
    """What to do with an agent that says this of itself and was not told anything."""
    if update.state == "updating":
        return Ended(ItemState.SKIPPED, "busy: it is being updated already", update.current)
    if update.current == (wanted or update.latest) or not update.available:
        if wanted is not None and update.current != wanted:
            return Ended(ItemState.SKIPPED, f"it knows of no version {wanted}", update.current)
        return Ended(ItemState.SKIPPED, "up to date", update.current)
    if wanted is not None and update.latest != wanted:
        return Ended(ItemState.SKIPPED, f"it would become {update.latest}, not {wanted}", update.current)
    return Tell(update.current, update.latest)


@dataclass(frozen=True, slots=True)
class Look:
    """What an agent said; `update` is None where it did not answer. `trouble` says why it did not, or why it is not
    ready; `gone`, that there is no such container any more."""

    update: Update | None = None
    ready: bool = False
    trouble: str = ""
    gone: bool = False


def judge_updating(item: Item, look: Look, wanted: str | None, now: float) -> Tell | Again | Ended:
    """What to do with a container whose line was begun, and whose agent was told, or perhaps was. `now` is Unix
    seconds."""
    if look.gone:
        return Ended(ItemState.SKIPPED, "the container is gone")
    update = look.update
    late = item.started_at is None or now - item.started_at.timestamp() >= UPDATE_SECONDS
    if update is None:
        return _late(f"the agent did not come back: {look.trouble}") if late else Again()
    # Without a wish, an agent may have found a version that is newer than what it announced.
    if update.current == item.target or (wanted is None and update.current != item.current):
        if look.ready or not item.was_ready:
            return Ended(ItemState.SUCCEEDED, None, update.current)
        return _late(f"it is not ready: {look.trouble}", update.current) if late else Again()
    if update.current != item.current:
        return Ended(ItemState.FAILED, f"it became {update.current}, not {item.target}", update.current)
    if late:
        return _late(f"the agent is still version {update.current}", update.current)
    if update.state == "updating":
        return Again()
    if update.state == "failed":
        # Also where the word that it was told was lost: it is not told twice.
        return Ended(ItemState.FAILED, "the agent says that its update failed", update.current)
    return Tell(update.current, item.target or update.latest) if item.told_at is None else Again()


def _late(reason: str, current: str | None = None) -> Ended:
    return Ended(ItemState.FAILED, f"not within {UPDATE_SECONDS:g} s: {reason}"[:500], current)
