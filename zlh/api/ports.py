"""/api/dev/<vmid>/ports: which ports of a dev container can be reached from outside, and by whom."""

from __future__ import annotations

from typing import Any, Self

from pydantic import model_validator
from quart import Response

from zlh.accounts import IDE_TOKEN_SECONDS
from zlh.api.answers import Answer
from zlh.api.bodies import Body, Name
from zlh.api.bodies import Port as PortNumber
from zlh.api.call import Call, json_response
from zlh.api.forwarding import DEV, require_type
from zlh.model.access import Permission
from zlh.model.errors import AbsentError, ConflictError
from zlh.model.ports import ForwardedPort, Visibility
from zlh.model.servers import rfc3339_of


class OpenPort(Body):
    """`visibility`: "private" (those who may open the IDE), "signed_in" (every account), "public"."""

    port: PortNumber
    visibility: Visibility = Visibility.PRIVATE
    label: Name = ""


class ChangePort(Body):
    """What is not given stays."""

    visibility: Visibility | None = None
    label: Name | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.visibility is None and self.label is None:
            raise ValueError("at least one of visibility and label is needed")
        return self


class OnePort(Answer):
    """`url` is where browsers find it; null where this installation has no host names for ports."""

    port: int
    visibility: Visibility
    label: str
    url: str | None
    created_at: str


class Ports(Answer):
    ports: list[OnePort]


class Port(Answer):
    port: OnePort


class PortToken(Answer):
    """`url` opens the port, once, within `expiresIn` seconds; `token` is the one in it."""

    token: str
    url: str
    expires_in: int


async def list_ports(call: Call, vmid: int) -> Response:
    require_type(call, vmid, DEV)
    return json_response({"ports": [_port_json(call, port) for port in call.services.ports.of(vmid)]})


async def open_port(call: Call, vmid: int) -> Response:
    require_type(call, vmid, DEV)
    body: OpenPort = call.body
    call.audit.details["port"] = body.port
    opened = await call.services.ports.open(vmid, body.port, body.visibility, body.label)
    call.audit.details["visibility"] = opened.visibility.value
    return json_response({"port": _port_json(call, opened)}, 201)


async def change_port(call: Call, vmid: int, port: int) -> Response:
    require_type(call, vmid, DEV)
    body: ChangePort = call.body
    call.audit.details["port"] = port
    changed = await call.services.ports.change(vmid, port, body.visibility, body.label)
    call.audit.details["visibility"] = changed.visibility.value
    return json_response({"port": _port_json(call, changed)})


async def close_port(call: Call, vmid: int, port: int) -> Response:
    require_type(call, vmid, DEV)
    call.audit.details["port"] = port
    await call.services.ports.close(vmid, port)
    return json_response({"ok": True})


async def port_token(call: Call, vmid: int, port: int) -> Response:
    """Also for those who may not see the container, where the port is open to every account."""
    call.audit.details["port"] = port
    found = call.services.ports.get(vmid, port)
    if found is None or found.visibility is Visibility.PRIVATE:
        call.services.access.check(call.principal, vmid, Permission.IDE)
    url = call.services.names.url(call.services.url(), vmid, port)
    if found is None or call.services.access.owner_of(vmid) is None:
        raise AbsentError("that port is not forwarded")
    if url is None:
        raise ConflictError("this installation has no host names for ports", code="no_host_names")
    token = call.services.people.ide_tokens.issue(call.principal, vmid, port)
    return json_response({"token": token, "url": f"{url}?token={token}", "expiresIn": IDE_TOKEN_SECONDS})


def _port_json(call: Call, port: ForwardedPort) -> dict[str, Any]:
    return {
        "port": port.port,
        "visibility": port.visibility.value,
        "label": port.label,
        "url": call.services.names.url(call.services.url(), port.vmid, port.port),
        "createdAt": rfc3339_of(port.created_at),
    }
