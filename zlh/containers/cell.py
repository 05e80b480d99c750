"""The state of one container, kept outside the tasks that work on it, so that it survives their crashes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import orjson
import trio

from zlh.containers.lacks import NOTHING, AgentKind, Lacks
from zlh.containers.reconcile import Repairs
from zlh.model.activity import Idle
from zlh.model.agent_calls import Feature
from zlh.model.containers import Container
from zlh.model.edge import Reachability
from zlh.model.observed import AgentObservation, HostObservation, Observed
from zlh.model.operations import Operation
from zlh.model.servers import Server, normalize


class Cell:
    """One container's state cache: what is wanted, what was seen, what is under way.

    One writer per field: the mailbox actor writes `row`, `operation` and `repairs`, the poller `observed.agent`, the
    watcher `observed.host`, the watch over idle IDEs `idle`, the edge `reachability`. Every write raises `version`
    and tells `changed`, which must not block.

    `unsure` means that a write's outcome is not known and the store must be read again; `gone`, that the row is.
    `commanded_until` (Unix seconds) keeps the poller fast after a command; setting `poll_asked` makes it poll now,
    and `version_asked` ask for the version and the update then, however short a time ago it did.
    """

    __slots__ = (
        "_changed",
        "_lacks",
        "_rendered",
        "commanded_until",
        "gone",
        "idle",
        "last_crash_at",
        "observed",
        "operation",
        "poll_asked",
        "reachability",
        "repairs",
        "row",
        "unsure",
        "version",
        "version_asked",
    )

    def __init__(
        self,
        row: Container,
        changed: Callable[[Cell], None],
        *,
        lacks: Lacks | None = None,
        operation: Operation | None = None,
        observed: Observed | None = None,
    ) -> None:
        self.row = row
        self.operation = operation
        self.observed = observed or Observed()
        self.repairs = Repairs()
        self.version = 0
        self.last_crash_at = row.last_crash_at.timestamp() if row.last_crash_at is not None else None
        self.unsure = False
        self.gone = False
        self.idle: Idle | None = None
        self.reachability: Reachability | None = None
        self.commanded_until = 0.0
        self.poll_asked = trio.Event()
        self.version_asked = False
        self._changed = changed
        self._lacks = lacks if lacks is not None else Lacks(lambda _kind: None, time.monotonic)
        self._rendered: tuple[int, int, bytes] = (-1, -1, b"")

    @property
    def vmid(self) -> int:
        return self.row.vmid

    @property
    def agent_version(self) -> str | None:
        """None while the agent has not told."""
        version = self.observed.agent.version
        return version.version if version is not None else None

    @property
    def agent_kind(self) -> AgentKind:
        return AgentKind.of(self.row.owner_id, self.row.vmid, self.agent_version)

    @property
    def lacking(self) -> frozenset[Feature]:
        """What the agent was found to be too old for."""
        return NOTHING if self._lacks.silent(self.row.owner_id) else self._lacks.of(self.agent_kind)

    def learn_lacking(self, feature: Feature) -> None:
        """The agent was found to be too old for that."""
        self._lacks.learn(self.agent_kind, feature)

    def learned(self) -> None:
        """Something new is known of agents of its kind."""
        self._bump()

    def set_row(self, row: Container) -> None:
        self.row = row
        self._bump()

    def set_operation(self, operation: Operation | None) -> None:
        self.operation = operation
        self._bump()

    def set_idle(self, idle: Idle | None) -> None:
        if idle != self.idle:
            self.idle = idle
            self._bump()

    def set_reachability(self, reachability: Reachability | None) -> None:
        if reachability != self.reachability:
            self.reachability = reachability
            self._bump()

    def set_repairs(self, repairs: Repairs) -> None:
        self.repairs = repairs

    def observe_agent(self, agent: AgentObservation) -> None:
        if _crashes(agent) > max(_crashes(self.observed.agent), self.row.crash_count):
            self.last_crash_at = agent.at
        self.observed = dataclasses.replace(self.observed, agent=agent)
        self._bump()

    def observe_host(self, host: HostObservation) -> None:
        self.observed = dataclasses.replace(self.observed, host=host)
        self._bump()

    def server(self, now: float) -> Server:
        return normalize(self.row, self.observed, self.operation, now, self.lacking, self.idle, self.reachability)

    def render(self, now: float) -> bytes:
        """The `Server` as JSON, built once per version and second (its age is in whole seconds)."""
        second = int(now)
        if self._rendered[:2] != (self.version, second):
            self._rendered = (self.version, second, orjson.dumps(self.server(now).as_dict()))
        return self._rendered[2]

    def _bump(self) -> None:
        self.version += 1
        self._changed(self)


def _crashes(agent: AgentObservation) -> int:
    return agent.status.crash_count if agent.status is not None else 0
