"""Rows, operations and observations that tests begin with, and hypothesis strategies for all that they may be."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from zlh.containers.steps import step_names
from zlh.model.containers import Container, ContainerType, Desired, Lifecycle, Power, Resources, Software
from zlh.model.observed import (
    AgentObservation,
    AgentState,
    HostObservation,
    Liveness,
    Observed,
    Players,
    Presence,
    Readiness,
    Status,
    Update,
    Version,
)
from zlh.model.operations import Operation, OperationKind, OperationState, Step, StepState

EPOCH = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOW = EPOCH.timestamp()


def a_row(vmid: int = 5001, **changes: Any) -> Container:
    row = Container(
        vmid=vmid,
        owner_id=7,
        ctype=ContainerType.GAME,
        name="Test",
        hostname=f"test-{vmid}",
        software=Software("minecraft", "1.21.4", "paper", "earth"),
        resources=Resources(1024, 1, 8),
        ports=(25565,),
        agent_token="secret-token",
        created_at=EPOCH,
        updated_at=EPOCH,
        node="pve1",
        address="127.64.0.1",
        provisioned=True,
    )
    return replace(row, **changes)


def an_operation(kind: OperationKind = OperationKind.PROVISION, **changes: Any) -> Operation:
    operation = Operation(
        id="op-1",
        kind=kind,
        vmid=5001,
        owner_id=7,
        state=OperationState.RUNNING,
        steps=tuple(Step(name) for name in step_names(kind)),
        created_at=EPOCH,
        updated_at=EPOCH,
        queued=False,
    )
    return replace(operation, **changes)


texts = st.one_of(st.none(), st.just(""), st.text(max_size=8))
times = st.one_of(st.none(), st.floats(NOW - 10_000, NOW + 100))
moments = st.one_of(st.none(), st.timedeltas(timedelta(days=-9), timedelta(0)).map(lambda ago: EPOCH + ago))

desires = st.builds(
    Desired,
    lifecycle=st.sampled_from(Lifecycle),
    power=st.sampled_from([Power.ON, Power.OFF]),
    suspended=st.booleans(),
    retrieval_since=moments,
    retrieval_until=st.one_of(st.none(), st.timedeltas(timedelta(hours=-9), timedelta(hours=9)).map(EPOCH.__add__)),
    game_held=st.booleans(),
)

rows = st.builds(
    a_row,
    ctype=st.sampled_from(ContainerType),
    desired=desires,
    node=st.sampled_from(["", "pve1", "pve2"]),
    address=st.sampled_from([None, "127.64.0.1", "fd00::1"]),
    ports=st.sampled_from([(), (25565,), (1, 2)]),
    provisioned=st.booleans(),
    agent_state=st.sampled_from(["unknown", "running", "offline", "nonsense"]),
    agent_last_seen=moments,
    crash_count=st.integers(0, 5),
    last_crash_at=moments,
)

hosts = st.builds(
    HostObservation,
    presence=st.sampled_from(Presence),
    power=st.sampled_from(Power),
    node=st.sampled_from(["", "pve1", "pve2"]),
    lock=st.sampled_from(["", "backup"]),
    absences=st.integers(0, 4),
    at=times,
    since=times,
    reason=st.text(min_size=1, max_size=8),
)

statuses = st.builds(
    Status,
    state=st.sampled_from(AgentState),
    install_step=texts,
    crash_count=st.integers(0, 9),
    error=texts,
    cpu_percent=st.one_of(st.none(), st.floats(0, 100)),
)

agents = st.builds(
    AgentObservation,
    liveness=st.sampled_from(Liveness),
    status=st.one_of(st.none(), statuses),
    readiness=st.one_of(st.none(), st.builds(Readiness, ready=st.booleans(), reason=texts)),
    version=st.one_of(st.none(), st.just(Version("1.4.2"))),
    update=st.one_of(st.none(), st.just(Update("1", "2", True, "idle"))),
    players=st.one_of(st.none(), st.just(Players(1, 20, ("ada",)))),
    players_at=times,
    at=times,
    asked_at=times,
    misses=st.integers(0, 5),
    stale=st.booleans(),
    reason=st.text(min_size=1, max_size=8),
)

observations = st.builds(Observed, host=hosts, agent=agents)


@st.composite
def operations(draw: st.DrawFn, states: tuple[OperationState, ...] = tuple(OperationState)) -> Operation:
    """Any operation, also such as the journal would not allow."""
    kind = draw(st.sampled_from(OperationKind))
    steps = tuple(
        Step(name, draw(st.sampled_from(StepState)), error=draw(texts), note=draw(texts)) for name in step_names(kind)
    )
    return an_operation(
        kind,
        steps=steps,
        state=draw(st.sampled_from(states)),
        queued=draw(st.booleans()),
        error=draw(texts),
    )


IN_FLIGHT = (OperationState.RUNNING, OperationState.COMPENSATING)
