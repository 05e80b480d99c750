"""A route as data: its address, who may call it, what it takes and gives; and the one way from request to handler.

Everything that a handler could forget happens here, before it: who is calling, whether that is enough, whether the
container in the address is the caller's, and whether the input is valid.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from pydantic import BaseModel
from quart import Request, Response
from werkzeug.routing import BaseConverter

from zlh.accounts import require_scope
from zlh.api.auditing import Recording
from zlh.api.bodies import Body, Query
from zlh.api.call import Call
from zlh.api.errors import envelope
from zlh.api.idempotency import once
from zlh.api.requestid import HEADER
from zlh.api.requests import parse_body, parse_query
from zlh.api.services import Services
from zlh.model.access import Permission, Scope
from zlh.model.accounts import Acting, Principal, Role
from zlh.model.errors import ForbiddenError, ProblemError, UnauthenticatedError

ADDRESS_PART = re.compile(r"<(?:[a-z]+(?:\([^)]*\))?:)?(\w+)>")
VMID = "<vmid:vmid>"
ACCOUNT = "<id:account_id>"
PORT = "<port:port>"


class VmidConverter(BaseConverter):
    """One address for each container: werkzeug's `int` takes 0005000, and digits of any script, for 5000 too."""

    regex = "[1-9][0-9]{0,8}"

    def to_python(self, value: str) -> int:
        return int(value)


class IdConverter(VmidConverter):
    """One address for each account, too."""

    regex = "[1-9][0-9]{0,17}"


class PortConverter(VmidConverter):
    """One address for each port, too."""

    regex = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"


class Who(Enum):
    """Who may call. That says nothing about a container in the address: it must be the caller's too."""

    PUBLIC = "public"
    SIGNED_IN = "signed_in"
    OPERATOR = "operator"
    ADMIN = "admin"


SAFE = ("GET", "HEAD")


# Called with the Call and the address's parameters; a websocket's with (services, route, websocket).
Handler = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Route:
    """`answer` is the model of a good answer's body (None: not JSON); `status` its status.

    `scope` is what an API key needs; None: no key may call it, only somebody who signed in. `permission` is what the
    caller needs at the container in the address; who may not even see it gets 404. A handler that must look deeper
    sets it to None and decides itself. `suspended` lets suspended accounts in, `acting` an operator in a customer's
    place whatever the other fields say. `idempotent` honours Idempotency-Key.
    `audited` is the action's name in the audit record, None for what changes nothing. Where the record cannot be
    written, because the database is away, the call is refused; `through_outages` is for what must work even then.
    """

    method: str
    path: str
    who: Who
    handler: Handler
    summary: str
    answer: type[BaseModel] | None
    status: int = 200
    body: type[Body] | None = None
    query: type[Query] | None = None
    scope: Scope | None = None
    permission: Permission | None = Permission.VIEW
    suspended: bool = False
    acting: bool = False
    idempotent: bool = False
    websocket: bool = False
    audited: str | None = None
    through_outages: bool = False
    media: str = "application/json"

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def parameters(self) -> list[str]:
        return ADDRESS_PART.findall(self.path)

    @property
    def template(self) -> str:
        """The address as OpenAPI writes it."""
        return ADDRESS_PART.sub(r"{\1}", self.path)


def bearer(request_headers: Any) -> str:
    """The token of the Authorization header. Raises UnauthenticatedError; also where there are two of them: whoever
    reads the other one would take the request for somebody else's."""
    given = request_headers.getlist("Authorization")
    return bearer_token(given[0] if len(given) == 1 else "")


def bearer_token(authorization: str) -> str:
    """The token of what stands in the Authorization header. Raises UnauthenticatedError."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError("sign in first")
    return token.strip()


def admit(services: Services, route: Route, token: str, parameters: dict[str, Any], address: str = "") -> Principal:
    """The caller at `address`, who may make this call. Raises UnauthenticatedError, ForbiddenError or AbsentError."""
    principal = services.access.principal(token, address)
    _allow(services, route, principal, parameters)
    return principal


def _allow(services: Services, route: Route, principal: Principal, parameters: dict[str, Any]) -> None:
    if not route.suspended and services.access.suspended(principal):
        raise ForbiddenError("the account is suspended", code="suspended")
    require_scope(principal, route.scope)
    if route.who in (Who.OPERATOR, Who.ADMIN):
        _require_role(principal, route.who)
    if principal.acting is not None:
        _require_acting(principal.acting, route)
    if route.permission is not None and "vmid" in parameters:
        services.access.check(principal, parameters["vmid"], route.permission)


def _require_role(principal: Principal, who: Who) -> None:
    if principal.second_factor_owed:
        raise ForbiddenError("switch on your second factor first", code="second_factor_needed")
    if not principal.role.sees_all:
        raise ForbiddenError("this is for operators")
    if who is Who.ADMIN and principal.role is not Role.ADMIN:
        raise ForbiddenError("this is for administrators")


def _require_acting(acting: Acting, route: Route) -> None:
    """In somebody's place an operator changes neither credentials nor who else gets in, for that would last, spends
    no money of theirs, and changes, unless it was asked for, nothing else."""
    if route.acting:
        return
    changing = route.method not in SAFE
    if route.scope is None or (changing and route.scope in (Scope.SHARES, Scope.BILLING)):
        raise ForbiddenError("only the customer may do that", code="acting")
    if acting.read_only and changing:
        raise ForbiddenError("you act in a customer's place, and only to look", code="read_only")


async def answer(services: Services, route: Route, request: Request, parameters: dict[str, Any]) -> Response:
    """Carries out one request; every refusal becomes the envelope."""
    call = Call(services, request, None)
    try:
        response = await _carry_out(route, call, parameters)
    except ProblemError as problem:
        response = envelope(problem, call.id)
    else:
        response.headers[HEADER] = call.id
    services.traffic.count(route.name, response.status_code)
    return response


async def _carry_out(route: Route, call: Call, parameters: dict[str, Any]) -> Response:
    if route.audited is None:
        await _prepare(route, call, parameters)
        return await _handle(route, call, parameters)
    recording = Recording(
        call,
        route.audited,
        parameters,
        public=route.who is Who.PUBLIC,
        own=route.who is Who.SIGNED_IN,
        through_outages=route.through_outages,
    )
    try:
        await _prepare(route, call, parameters)
    except Exception as error:
        recording.refused(error)
        raise
    return await recording.carry_out(partial(_handle, route, call, parameters))


async def _prepare(route: Route, call: Call, parameters: dict[str, Any]) -> None:
    """All that comes before the handler. Raises what refuses the call."""
    _judge(route, call, parameters)
    if route.query is not None:
        call.query = parse_query(route.query, call.request.args, call.request.query_string)
    if route.body is not None:
        call.raw = await _read(call.request)
        # A body may be long in coming: what was lost meanwhile is lost.
        _judge(route, call, parameters)
        call.body = parse_body(route.body, call.raw)


def _judge(route: Route, call: Call, parameters: dict[str, Any]) -> None:
    """Who calls, and whether that is allowed at this moment. Raises as `admit`."""
    if route.who is not Who.PUBLIC:
        token = bearer(call.request.headers)
        # Who it is is known even where it is refused: the audit record says whom.
        call.principal_or_none = call.services.access.principal(token, call.address)
        _allow(call.services, route, call.principal, parameters)


async def _handle(route: Route, call: Call, parameters: dict[str, Any]) -> Response:
    key = call.request.headers.get("Idempotency-Key") if route.idempotent else None

    async def work() -> Response:
        response: Response = await route.handler(call, **parameters)
        return response

    return await work() if key is None else await once(call, key, route.name, work)


async def _read(request: Request) -> bytes:
    raw = await request.get_data(cache=False)
    assert isinstance(raw, bytes)
    return raw
