"""The one answer about a container: total, honest about what it rests on, and never "stopped" without being told."""

from __future__ import annotations

from dataclasses import replace

import orjson
from hypothesis import given
from hypothesis import strategies as st

from tests.containers.samples import NOW, a_row, agents, an_operation, hosts, observations, operations, rows
from zlh.model.containers import Container, Power
from zlh.model.observed import (
    AgentObservation,
    AgentState,
    HostObservation,
    Liveness,
    Observed,
    Presence,
    Readiness,
    Status,
)
from zlh.model.operations import Operation, OperationKind, OperationState, Step, StepState
from zlh.model.servers import normalize

ON = HostObservation(Presence.PRESENT, Power.ON, "pve1", at=NOW, since=NOW, reason="Proxmox says running")
IDLE = AgentObservation(Liveness.ONLINE, Status(AgentState.IDLE), at=NOW, reason="the agent answers")
maybe_operation = st.one_of(st.none(), operations(states=(OperationState.RUNNING, OperationState.COMPENSATING)))


@given(rows, observations, maybe_operation)
def test_it_is_total_and_says_why(row: Container, observed: Observed, operation: Operation | None) -> None:
    server = normalize(row, observed, operation, NOW)
    assert server.status
    assert server.reason
    answer = server.as_dict()
    orjson.dumps(answer)
    assert (answer["observedAt"] is None) == (answer["staleSeconds"] is None)
    assert answer["staleSeconds"] is None or answer["staleSeconds"] >= 0
    if server.observed_at is not None:
        assert server.observed_at in (observed.host.at, observed.agent.at)
    assert "secret-token" not in orjson.dumps(answer).decode()


@given(rows, observations, maybe_operation)
def test_stopped_is_the_agents_word_and_offline_is_proxmox_word(
    row: Container, observed: Observed, operation: Operation | None
) -> None:
    server = normalize(row, observed, operation, NOW)
    agent = observed.agent
    if server.status == "stopped":
        assert agent.liveness is Liveness.ONLINE
        assert agent.status is not None
        assert agent.status.state is AgentState.IDLE
    if server.status == "host offline" or server.host_status == "offline":
        assert observed.host.power is Power.OFF
    if server.status == "running":
        assert agent.status is not None
        assert agent.status.state is AgentState.RUNNING
    if server.as_dict()["ready"]:
        assert server.status == "running"
        assert agent.readiness is not None


@given(rows, agents, hosts)
def test_unknown_power_stays_unknown(row: Container, agent: AgentObservation, host: HostObservation) -> None:
    host = replace(host, power=Power.UNKNOWN)
    server = normalize(row, Observed(host, agent), None, NOW)
    assert server.host_status == "unknown"
    assert server.status != "host offline"


def test_an_old_idle_of_an_agent_that_went_away_is_not_stopped() -> None:
    for liveness in (Liveness.OFFLINE, Liveness.UNKNOWN):
        silent = replace(IDLE, liveness=liveness, reason="no answer within 2 s")
        server = normalize(a_row(), Observed(ON, silent), None, NOW)
        assert server.status == ("offline" if liveness is Liveness.OFFLINE else "unknown")
        assert "no answer within 2 s" in server.reason
    assert normalize(a_row(), Observed(ON, IDLE), None, NOW).status == "stopped"


def test_running_and_not_ready_says_why() -> None:
    running = replace(IDLE, status=Status(AgentState.RUNNING), readiness=Readiness(False, "the port does not answer"))
    server = normalize(a_row(), Observed(ON, running), None, NOW)
    assert (server.status, server.as_dict()["ready"]) == ("running", False)
    assert "not that it is ready: the port does not answer" in server.reason


def test_what_is_under_way_is_said() -> None:
    expected = {
        OperationKind.PROVISION: "provisioning",
        OperationKind.TEARDOWN: "deleting",
        OperationKind.START_HOST: "starting",
        OperationKind.STOP_HOST: "stopping",
        OperationKind.RESTART_HOST: "starting",
        OperationKind.UPGRADE: "stopped",
        OperationKind.RESTORE: "stopped",
    }
    for kind, status in expected.items():
        assert normalize(a_row(), Observed(ON, IDLE), an_operation(kind), NOW).status == status
    queued = an_operation(queued=True)
    assert "turn" in normalize(a_row(), Observed(), queued, NOW).reason
    steps = (Step("clone", StepState.DONE), Step("configure", StepState.STARTED, note="waits"))
    assert normalize(a_row(), Observed(), an_operation(steps=steps), NOW).reason == "step configure: waits"
    undone = an_operation(state=OperationState.COMPENSATING, error="clone: disk full")
    server = normalize(a_row(), Observed(ON, IDLE), undone, NOW)
    assert (server.status, "disk full" in server.reason) == ("deleting", True)


def test_the_age_is_that_of_what_it_rests_on() -> None:
    old = replace(IDLE, at=NOW - 40)
    assert normalize(a_row(), Observed(ON, old), None, NOW).stale_seconds == 40
    off = replace(ON, power=Power.OFF, at=NOW - 3)
    assert normalize(a_row(), Observed(off, old), None, NOW).stale_seconds == 3
    assert normalize(a_row(), Observed(), None, NOW).stale_seconds is None
