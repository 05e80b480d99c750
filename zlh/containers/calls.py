"""Calls that are passed on to agents: whether they may be made at all, and what an answer means."""

from __future__ import annotations

import orjson
import trio

from zlh.containers.cell import Cell
from zlh.drivers.agent import AgentClient, Answer, parse_players, parse_refusal
from zlh.drivers.errors import Conflict, DriverError, Invalid, NotFound, Refused, Unreachable, Unsupported
from zlh.model.agent_calls import AgentAnswer, AgentCall, Feature
from zlh.model.containers import Container, Lifecycle, Power
from zlh.model.errors import (
    AgentProblemError,
    AgentUnreachableError,
    AgentUnsupportedError,
    ConflictError,
    ForbiddenError,
    ProblemError,
)
from zlh.model.observed import Players
from zlh.model.operations import OperationKind

LACKING = (404, 405, 501)
PLAYERS = AgentCall(Feature.PLAYERS, "GET", "/players", changes=False)


def refuse_unreachable(cell: Cell, *, changes: bool = True) -> None:
    """Raises what keeps a container's agent from being asked anything, or from being asked for a change."""
    refuse_unfinished(cell.row)
    if cell.row.desired.suspended and changes:
        raise ForbiddenError("the account is suspended", code="suspended")
    operation = cell.operation
    if changes and operation is not None and operation.kind is OperationKind.RESTORE:
        # What is changed now may be among the files that are put back, or not.
        refuse_in_flight(cell)
    if cell.observed.host.power is Power.OFF:
        how = "its account is suspended, open a retrieval" if cell.row.desired.suspended else "start it"
        raise ConflictError(f"the container is off; {how} first", code="host_offline")


def refuse_unfinished(row: Container) -> None:
    if not row.provisioned or row.address is None:
        raise ConflictError("the container is not ready yet", code="not_ready")
    if row.desired.lifecycle is Lifecycle.ABSENT:
        raise ConflictError("the container is being deleted", code="deleting")


def refuse_in_flight(cell: Cell) -> None:
    operation = cell.operation
    if operation is not None:
        raise ConflictError(
            f"a {operation.kind.value.replace('_', ' ')} is under way",
            code="operation_in_flight",
            details={"operation": operation.id, "kind": operation.kind.value},
        )


def refuse_lacking(cell: Cell, feature: Feature) -> None:
    if feature in cell.lacking:
        raise unsupported(cell.agent_version, feature)


def unsupported(version: str | None, feature: Feature) -> AgentUnsupportedError:
    said = f"version {version} of the agent" if version else "this container's agent"
    return AgentUnsupportedError(
        f"{said} is too old for that: update the agent", details={"feature": feature.value, "agentVersion": version}
    )


async def carry_out(call: AgentCall, client: AgentClient, cell: Cell) -> AgentAnswer:
    """Asks the agent. Raises AgentUnsupportedError, AgentProblemError (its own refusal), AgentUnreachableError."""
    refuse_lacking(cell, call.feature)
    try:
        with trio.fail_after(call.seconds):
            answer = await client.request(call.method, call.path, call.body, query=call.query, max_body=call.max_body)
            if answer.status in LACKING and await _lacks(call, client, answer):
                cell.learn_lacking(call.feature)
                raise unsupported(cell.agent_version, call.feature)
    except trio.TooSlowError:
        raise AgentUnreachableError(
            f"the agent did not answer within {call.seconds:g} s", details={"mayTakeEffect": call.changes}
        ) from None
    except Invalid as error:
        raise _not_understood(error, call) from None
    except DriverError as error:
        details = {"mayTakeEffect": True} if error.may_have_happened and call.changes else None
        raise AgentUnreachableError(f"the agent does not answer: {error}", details=details) from None
    return _success(call, answer)


async def _lacks(call: AgentCall, client: AgentClient, answer: Answer) -> bool:
    """Whether a 404 says that the agent does not know the call, rather than what the call is about."""
    if call.probe is None or answer.status != 404:
        return True
    try:
        probe = await client.request("GET", call.probe, max_body=call.max_body)
    except Invalid:
        # It has something to say there, if too much of it.
        return False
    return probe.status in LACKING


def _success(call: AgentCall, answer: Answer) -> AgentAnswer:
    if not 200 <= answer.status < 300:
        if answer.status < 400:
            raise _not_understood(Invalid(f"{call.path}: answered with status {answer.status}"), call)
        message, details = parse_refusal(answer.body)
        words = message or f"the agent answered with status {answer.status}"
        # Its 401 is about our token: the caller is signed in, and must not be told otherwise.
        status = 502 if answer.status in (401, 403) else answer.status
        raise AgentProblemError(status, words, details=details or None)
    if answer.body:
        try:
            orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            raise _not_understood(Invalid(f"{call.path}: the answer is not JSON"), call) from None
    return AgentAnswer(answer.status, answer.body)


def read_players(answer: AgentAnswer) -> Players:
    """Raises AgentUnreachableError."""
    try:
        return parse_players(answer.body)
    except Invalid as error:
        raise _not_understood(error, PLAYERS) from None


def _not_understood(error: DriverError, call: AgentCall) -> AgentUnreachableError:
    details = {"mayTakeEffect": True} if call.changes else None
    return AgentUnreachableError(f"the agent's answer was not understood: {error}", details=details)


def translate(error: DriverError) -> ProblemError:
    """What an agent's answer means to the one who asked."""
    if isinstance(error, Unsupported | NotFound):
        return AgentUnsupportedError(f"this container's agent is too old for that: {error}")
    if isinstance(error, Conflict):
        return AgentProblemError(409, str(error))
    if isinstance(error, Refused):
        return AgentProblemError(error.status, str(error), details=error.details or None)
    if isinstance(error, Unreachable):
        return AgentUnreachableError(f"the agent does not answer: {error}")
    return AgentUnreachableError(f"the agent's answer was not understood: {error}")
