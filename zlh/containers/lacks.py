"""What agents are too old for, by their version."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from zlh.model.agent_calls import Feature

NOTHING: frozenset[Feature] = frozenset()

FORGET_SECONDS = 3600.0
"""An agent that said so by mistake, while it started or for a bug, is asked again one day."""


class AgentKind(NamedTuple):
    """What one agent says of itself holds for all of its kind: those of the same owner and version. Not for those of
    others: an agent is in its customer's hands, and could speak ill of what everybody has. Of an agent that does not
    tell its version there is only the one, in the container `vmid`.
    """

    owner_id: int
    version: str | None
    vmid: int | None

    @classmethod
    def of(cls, owner_id: int, vmid: int, version: str | None) -> AgentKind:
        return cls(owner_id, version, None if version else vmid)


class Lacks:
    """What agents of each kind were found to lack. An agent that is updated has another version, and is asked again;
    so is everything after a restart of ours."""

    def __init__(self, learned: Callable[[AgentKind], None], now: Callable[[], float]) -> None:
        """`learned(kind)` is called when something new is known; `now` gives seconds of any clock."""
        self._until: dict[AgentKind, dict[Feature, float]] = {}
        self._learned = learned
        self._now = now

    def of(self, kind: AgentKind) -> frozenset[Feature]:
        known = self._until.get(kind)
        if known is None:
            return NOTHING
        now = self._now()
        return frozenset(feature for feature, until in known.items() if now < until)

    def learn(self, kind: AgentKind, feature: Feature) -> None:
        if feature not in self.of(kind):
            self._until.setdefault(kind, {})[feature] = self._now() + FORGET_SECONDS
            self._learned(kind)

    def forget(self, vmid: int) -> None:
        """The container is gone; another may be found under its number."""
        for kind in [kind for kind in self._until if kind.vmid == vmid]:
            del self._until[kind]
