"""What the end of one child means for its siblings. Pure: positions in the list of children and their states."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class Strategy(Enum):
    ONE_FOR_ONE = "one_for_one"  # siblings do not notice
    ONE_FOR_ALL = "one_for_all"  # all siblings are restarted with it
    REST_FOR_ONE = "rest_for_one"  # the siblings that were started after it are restarted with it


class State(Enum):
    STARTING = "starting"  # waits for its turn, or is on its way up
    RUNNING = "running"
    RESTARTING = "restarting"  # waits out its backoff, or for siblings that come before it
    QUARANTINED = "quarantined"
    STOPPING = "stopping"
    STOPPED = "stopped"


# A child in one of these holds up nobody. Quarantine is among them: its siblings serve without it.
SETTLED = frozenset({State.RUNNING, State.QUARANTINED, State.STOPPED})


def affected(strategy: Strategy, index: int, count: int) -> list[int]:
    """The siblings that are restarted with child `index` of `count`, in the order in which they stop."""
    if strategy is Strategy.ONE_FOR_ONE:
        return []
    first = 0 if strategy is Strategy.ONE_FOR_ALL else index + 1
    return [i for i in range(count - 1, first - 1, -1) if i != index]


def may_start(strategy: Strategy, index: int, states: Sequence[State], waiting: frozenset[int]) -> bool:
    """Whether child `index` may start now. `waiting` are the children that wait out a backoff."""
    if strategy is Strategy.ONE_FOR_ONE:
        return True
    if strategy is Strategy.ONE_FOR_ALL and waiting:
        return False
    return all(state in SETTLED for state in states[:index])
