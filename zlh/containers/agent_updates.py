"""One agent and its update: how it is looked at, when it is left alone, and how it is told."""

from __future__ import annotations

from typing import Protocol

import trio

from zlh.drivers.agent import parse_readiness, parse_update
from zlh.drivers.errors import Invalid
from zlh.model.access import Sight
from zlh.model.agent_calls import AgentAnswer, AgentCall, Feature
from zlh.model.containers import Container, Lifecycle
from zlh.model.errors import (
    AbsentError,
    AgentProblemError,
    AgentUnreachableError,
    DeadlineError,
    ProblemError,
    UnavailableError,
)
from zlh.model.observed import AgentState, Update
from zlh.model.rollouts import Ended, ItemState, Look, Tell, judge_pending
from zlh.model.servers import Server

ANSWER_SECONDS = 30.0
"""How long an agent is asked again that was not told anything yet, before it is left alone."""

LOOK_SECONDS = 2.0

VERSIONS = AgentCall(Feature.UPDATE, "GET", "/update", changes=False)
# An agent that knows nothing of readiness but can update itself is not too old for updates.
READY = AgentCall(Feature.UPDATE, "GET", "/ready", changes=False, probe="/update")
TELL = AgentCall(Feature.UPDATE, "POST", "/update")

IN_BETWEEN = (AgentState.INSTALLING, AgentState.STARTING, AgentState.STOPPING)
TRANSIENT = (AgentUnreachableError, UnavailableError, DeadlineError)


class Agents(Protocol):
    """What an update needs of the fleet; see `zlh.containers.Fleet`."""

    def server(self, vmid: int) -> Server: ...

    def containers(self, sight: Sight) -> list[Container]: ...

    async def call(self, vmid: int, call: AgentCall) -> AgentAnswer: ...


def reason_to_leave(server: Server) -> str | None:
    """Why this container is not one to update now, as far as memory knows."""
    row, status = server.container, server.agent.status
    if row.desired.lifecycle is Lifecycle.ABSENT:
        return "it is being deleted"
    if not row.provisioned:
        return "it is not ready yet"
    if server.operation is not None:
        return f"busy: a {server.operation.kind.value.replace('_', ' ')} is under way"
    if row.desired.suspended:
        return "its account is suspended"
    if server.host_status == "offline":
        return "it is off"
    if status is not None and status.state in IN_BETWEEN:
        return f"busy: it is {status.state.value}"
    return None


def expect(server: Server, wanted: str | None) -> Tell | Ended | None:
    """What an update would do, as far as memory knows; None where the agent has not told its version."""
    reason = reason_to_leave(server)
    if reason is not None:
        version = server.agent.version
        return Ended(ItemState.SKIPPED, reason, version.version if version is not None else None)
    if Feature.UPDATE in server.lacking:
        return Ended(ItemState.SKIPPED, "its agent cannot update itself")
    return judge_pending(server.agent.update, wanted) if server.agent.update is not None else None


async def check(agents: Agents, vmid: int, wanted: str | None) -> tuple[Tell | Ended, bool]:
    """What to do with a container that nothing was done to, and whether it is ready."""
    with trio.move_on_after(ANSWER_SECONDS):
        while True:
            try:
                return await _check(agents, vmid, wanted)
            except TRANSIENT:
                await trio.sleep(LOOK_SECONDS)
            except ProblemError as problem:
                return Ended(ItemState.SKIPPED, problem.message), False
    return Ended(ItemState.SKIPPED, "its agent does not answer"), False


async def _check(agents: Agents, vmid: int, wanted: str | None) -> tuple[Tell | Ended, bool]:
    reason = reason_to_leave(agents.server(vmid))
    if reason is not None:
        return Ended(ItemState.SKIPPED, reason), False
    try:
        verdict = judge_pending(await _versions(agents, vmid), wanted)
    except Invalid as error:
        return Ended(ItemState.SKIPPED, f"its agent is not understood: {error}"), False
    return verdict, isinstance(verdict, Tell) and (await _ready(agents, vmid)) is None


async def look(agents: Agents, vmid: int) -> Look:
    """What an agent says that may have been told."""
    try:
        update = await _versions(agents, vmid)
        trouble = await _ready(agents, vmid)
    except AbsentError as error:
        return Look(trouble=str(error), gone=True)
    except (ProblemError, Invalid) as error:
        return Look(trouble=str(error))
    return Look(update, trouble is None, trouble or "")


async def _versions(agents: Agents, vmid: int) -> Update:
    return parse_update((await agents.call(vmid, VERSIONS)).body)


async def _ready(agents: Agents, vmid: int) -> str | None:
    """None where it is; otherwise why it is not."""
    try:
        readiness = parse_readiness((await agents.call(vmid, READY)).body)
    except Invalid as error:
        return str(error)
    except AgentProblemError as problem:
        # An agent that does not know the call is as ready as it will ever say.
        return None if problem.status == 404 else "it says that it is not"
    return None if readiness.ready else readiness.reason or "no reason was given"
