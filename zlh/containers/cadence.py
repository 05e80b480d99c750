"""When the next poll is due. Pure."""

from __future__ import annotations

import math

from zlh.containers.options import Polling
from zlh.model.containers import Power
from zlh.model.observed import AgentState, Liveness, Observed
from zlh.model.operations import Operation

TRANSITIONS = (AgentState.INSTALLING, AgentState.STARTING, AgentState.STOPPING, AgentState.UNKNOWN)

JITTER = 0.1
"""Of the interval, to both sides: a thousand pollers that started together drift apart."""


def interval(polling: Polling, observed: Observed, operation: Operation | None, *, commanded: bool) -> float:
    """Seconds between two polls, without jitter. `commanded`: a power command was sent a moment ago."""
    if operation is not None or commanded:
        return polling.transition_seconds
    if observed.host.power is Power.OFF:
        return polling.stopped_seconds
    agent = observed.agent
    if agent.liveness is Liveness.ONLINE and agent.status is not None and agent.status.state in TRANSITIONS:
        return polling.transition_seconds
    if agent.liveness is Liveness.UNKNOWN or agent.stale or 0 < agent.misses < polling.misses:
        return polling.transition_seconds
    return polling.running_seconds


def due(now: float, seconds: float, tick: float, random: float) -> float:
    """The moment of the next poll: `seconds` from `now` with jitter (`random` in 0..1), up to the next grid point.

    Polls on one grid share wake-ups, and wake-ups cost more than parsing.
    """
    at = now + seconds * (1.0 + JITTER * (2.0 * random - 1.0))
    return math.ceil(at / tick) * tick if tick > 0 else at
