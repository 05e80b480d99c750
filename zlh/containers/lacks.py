"""What agents are too old for, by their version."""

from __future__ import annotations

from collections.abc import Callable

from zlh.model.agent_calls import Feature

NOTHING: frozenset[Feature] = frozenset()


class Lacks:
    """What agents of each version were found to lack. An agent that is updated has another version, and is asked
    again; so is everything after a restart of ours."""

    def __init__(self, learned: Callable[[str], None]) -> None:
        """`learned(version)` is called when something new is known of a version."""
        self._lacking: dict[str, frozenset[Feature]] = {}
        self._learned = learned

    def of(self, version: str | None) -> frozenset[Feature]:
        return self._lacking.get(version, NOTHING) if version else NOTHING

    def learn(self, version: str | None, feature: Feature) -> None:
        """An agent whose version is not known teaches nothing about others."""
        if version and feature not in self.of(version):
            self._lacking[version] = self.of(version) | {feature}
            self._learned(version)
