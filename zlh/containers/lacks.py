"""What agents are too old for, by their version."""

from __future__ import annotations

from collections.abc import Callable, Collection
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
        self._until: dict[int, dict[AgentKind, dict[Feature, float]]] = {}
        self._learned = learned
        self._now = now

    def of(self, kind: AgentKind) -> frozenset[Feature]:
        known = self._until.get(kind.owner_id, {}).get(kind)
        if known is None:
            return NOTHING
        now = self._now()
        return frozenset(feature for feature, until in known.items() if now < until)

    def silent(self, owner_id: int) -> bool:
        """Whether nothing is known of any agent of that owner, as with almost everybody."""
        return owner_id not in self._until

    def learn(self, kind: AgentKind, feature: Feature) -> None:
        if feature not in self.of(kind):
            of_owner = self._until.setdefault(kind.owner_id, {})
            of_owner.setdefault(kind, {})[feature] = self._now() + FORGET_SECONDS
            self._learned(kind)

    def keep(self, owner_id: int, kinds: Collection[AgentKind]) -> None:
        """Forgets the owner's agents of other kinds: there are none of these any more. An agent that says to be
        another at every turn is not remembered as all of them."""
        kept = {kind: known for kind, known in self._until.pop(owner_id, {}).items() if kind in kinds}
        if kept:
            self._until[owner_id] = kept

    @property
    def kinds(self) -> int:
        """How many are remembered."""
        return sum(map(len, self._until.values()))
