"""Calls that are passed on to agents, as data: a row per call, and the one way from a request to the agent and back.

A row gives a route for each type of container that has it. Changes answer `{"ok": true}` with the agent's status, or
nothing where that is 204; whatever else an agent says is read strictly, and passed on as far as it is understood.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import trio
from pydantic import BaseModel, ConfigDict, RootModel, ValidationError
from pydantic.alias_generators import to_camel
from quart import Response

from zlh.api.answers import Ok
from zlh.api.bodies import Body, Query
from zlh.api.call import Call, json_response, raw_json
from zlh.api.routing import ADDRESS_PART, SAFE, VMID, Route, Who
from zlh.model.access import Permission, Scope
from zlh.model.agent_calls import AgentAnswer, AgentCall, Feature
from zlh.model.containers import ContainerType
from zlh.model.errors import AbsentError, AgentUnreachableError
from zlh.model.paths import LONGEST_NAME, checked_path

GAME, DEV = (ContainerType.GAME,), (ContainerType.DEV,)
BOTH = (*GAME, *DEV)

LONG_SECONDS = 90.0
"""For what takes as long as the files are large; below what the gateway waits for an answer."""

LARGE = 64 * 1024
"""Bytes. To understand a larger answer takes longer than everybody else should wait: a directory of 50,000 files a
second."""

_READERS = trio.CapacityLimiter(2)

PROBES = {
    Feature.FILES: "/files",
    Feature.FILE_SEARCH: "/files/search",
    Feature.MODS: "/mods",
    Feature.MOD_UPDATES: "/mods/updates",
}
"""What tells an agent that lacks a feature from one that lacks the file or the mod: see `AgentCall.probe`."""


class Told(BaseModel):
    """The base of what agents answer: strict about types, indifferent to fields that we do not know."""

    model_config = ConfigDict(strict=True, extra="ignore", alias_generator=to_camel, frozen=True)


class Anything(RootModel[dict[str, Any]]):
    """An object of the agent's own making, as it came."""

    model_config = ConfigDict(strict=True)


@dataclass(frozen=True, kw_only=True)
class Forwarded:
    """`path` is the address below the container's, and the agent's own unless `agent` says otherwise. What the query
    or the body holds is sent on by the names that the agent knows; a field that is named in `newer` needs that
    feature instead. `facts`: what of it the audit record keeps, name -> fact. `tidy` goes over a good answer, and is
    given what was asked. `seconds` and `max_body` are the agent's limits. `suspended` lets suspended accounts in.
    """

    method: str
    path: str
    summary: str
    feature: Feature
    permission: Permission
    scope: Scope
    agent: str | None = None
    base: str | None = None
    answer: type[BaseModel] = Ok
    status: int = 200
    body: type[Body] | None = None
    query: type[Query] | None = None
    ctypes: tuple[ContainerType, ...] = BOTH
    action: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    newer: Mapping[str, Feature] = field(default_factory=dict)
    tidy: Callable[[Any, Mapping[str, Any]], BaseModel] | None = None
    seconds: float = 10.0
    max_body: int = 1 << 20
    suspended: bool = False

    @property
    def changes(self) -> bool:
        return self.method not in SAFE

    def agent_call(self, names: Mapping[str, str], wish: Mapping[str, Any]) -> AgentCall:
        """`names` are the parameters of the address."""
        feature = next((newer for name, newer in self.newer.items() if name in wish), self.feature)
        path = self.agent or "/" + ADDRESS_PART.sub(r"{\1}", self.path)
        in_body = self.body is not None
        return AgentCall(
            feature,
            self.method,
            path.format_map(names),
            query={name: str(value) for name, value in wish.items()} if wish and not in_body else None,
            body=dict(wish) if in_body else None,
            changes=self.changes,
            probe=PROBES.get(feature),
            seconds=self.seconds,
            max_body=self.max_body,
        )


def routes(table: Iterable[Forwarded]) -> tuple[Route, ...]:
    """The routes of these rows: below `/api/game/<vmid>` and `/api/dev/<vmid>`, or below `base`."""
    return tuple(
        _route(row, base, ctypes)
        for row in table
        for base, ctypes in (
            [(row.base, row.ctypes)]
            if row.base is not None
            else [(f"/api/{ctype.value}/{VMID}", (ctype,)) for ctype in row.ctypes]
        )
    )


def _route(row: Forwarded, base: str, ctypes: tuple[ContainerType, ...]) -> Route:
    return Route(
        row.method,
        f"{base}/{row.path}",
        Who.SIGNED_IN,
        _handler(row, ctypes),
        row.summary,
        None if row.status == 204 else row.answer,
        row.status,
        row.body,
        row.query,
        scope=row.scope,
        permission=row.permission,
        suspended=row.suspended,
        idempotent=row.method == "POST",
        audited=row.action,
    )


def _handler(row: Forwarded, ctypes: tuple[ContainerType, ...]) -> Callable[..., Awaitable[Response]]:
    async def handler(call: Call, vmid: int, **names: str) -> Response:
        require_type(call, vmid, ctypes)
        for name in names.values():
            _require_name(name)
        wish = _wish(call)
        known = {**wish, **names}
        for name in row.facts.keys() & known.keys():
            call.audit.details[row.facts[name]] = known[name]
        answer = await call.services.fleet.call(vmid, row.agent_call(names, wish))
        return await _respond(row, answer, wish)

    return handler


def require_type(call: Call, vmid: int, ctypes: Iterable[ContainerType]) -> None:
    """A container of another type does not exist at this address. Raises AbsentError."""
    if call.services.fleet.container(vmid).ctype not in ctypes:
        raise AbsentError("there is no such server")


def _require_name(name: str) -> None:
    """What stands in an address is one part of the agent's address too."""
    try:
        found = checked_path(name)
    except ValueError:
        found = ""
    if not found or "/" in found or len(name.encode()) > LONGEST_NAME:
        raise AbsentError("there is nothing of that name")


def _wish(call: Call) -> dict[str, Any]:
    asked: BaseModel | None = call.body if call.body is not None else call.query
    return {} if asked is None else asked.model_dump(mode="json", by_alias=True, exclude_none=True)


async def _respond(row: Forwarded, answer: AgentAnswer, wish: Mapping[str, Any]) -> Response:
    if row.answer is Ok:
        return raw_json(b"", 204) if answer.status == 204 else json_response({"ok": True}, answer.status)
    if len(answer.body) <= LARGE:
        rendered = _understood(row, answer, wish)
    else:
        rendered = await trio.to_thread.run_sync(_understood, row, answer, wish, limiter=_READERS)
    return raw_json(rendered, answer.status)


def _understood(row: Forwarded, answer: AgentAnswer, wish: Mapping[str, Any]) -> bytes:
    """What the caller is told of it. Raises AgentUnreachableError."""
    told = read(row.answer, answer, changes=row.changes)
    if row.tidy is not None:
        told = row.tidy(told, wish)
    return told.model_dump_json(by_alias=True).encode()


def read(model: type[BaseModel], answer: AgentAnswer, *, changes: bool = False) -> BaseModel:
    """What the agent said. Raises AgentUnreachableError where that is not what its contract says."""
    try:
        return model.model_validate_json(answer.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise AgentUnreachableError(
            f"the agent's answer was not understood: {place}: {first['msg'].lower()}",
            details={"mayTakeEffect": True} if changes else None,
        ) from None
