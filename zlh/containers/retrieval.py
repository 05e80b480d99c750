"""A suspended container that is on for a while, so that its data can be fetched, and its game meanwhile. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum

from zlh.model.containers import Desired, Lifecycle, Power
from zlh.model.errors import ConflictError
from zlh.model.observed import AgentState, Liveness, Observed
from zlh.model.operations import Operation
from zlh.model.servers import rfc3339_of

DAY = timedelta(hours=24)
MOST = timedelta(hours=8)
"""So long after the first retrieval of a day the last one ends: data can be fetched, but nobody works there."""

LEAST = timedelta(minutes=5)


def opened(desired: Desired, seconds: float, now: float) -> Desired:
    """With a retrieval that lasts for `seconds` from now (Unix seconds), or for as much of that as the day has left;
    one that lasts longer already stays. Raises ConflictError "not_suspended", "retrieval_spent" (`details` =
    {"again": when the next day begins})."""
    if not desired.suspended:
        raise ConflictError("the account is not suspended: start the container instead", code="not_suspended")
    at = datetime.fromtimestamp(now, UTC)
    since = desired.retrieval_since
    if since is None or at >= since + DAY:
        since = at
    if since + MOST - at < LEAST:
        again = rfc3339_of(since + DAY)
        raise ConflictError(
            f"data can be fetched for {MOST // timedelta(hours=1)} hours a day; again from {again} on",
            code="retrieval_spent",
            details={"again": again},
        )
    until = min(at + timedelta(seconds=seconds), since + MOST)
    if desired.retrieval_until is not None:
        until = max(until, desired.retrieval_until)
    return replace(desired, retrieval_since=since, retrieval_until=until)


class GameWord(Enum):
    """What is due between a container and its game because of a suspension."""

    STOP = "stop"
    START = "start"
    FORGET = "forget"
    """Whatever was owed to it, it is under way again or has trouble of its own."""


def game_word(desired: Desired, observed: Observed, operation: Operation | None) -> GameWord | None:
    """A suspended container's game does not run, whatever started it. Once the suspension is over, a game that was
    stopped by it runs again. None where nothing is due, and where the agent is not heard: unknown is not running."""
    agent = observed.agent
    if operation is not None or desired.lifecycle is Lifecycle.ABSENT or observed.host.power is Power.OFF:
        return None
    if agent.liveness is not Liveness.ONLINE or agent.status is None or agent.stale:
        return None
    state = agent.status.state
    if desired.suspended:
        return GameWord.STOP if state in (AgentState.STARTING, AgentState.RUNNING) else None
    if not desired.game_held or desired.power is not Power.ON:
        return None
    if state is AgentState.IDLE:
        return GameWord.START
    under_way = state in (AgentState.STOPPING, AgentState.INSTALLING, AgentState.UNKNOWN)
    return None if under_way else GameWord.FORGET
