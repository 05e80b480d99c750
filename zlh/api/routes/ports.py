"""Forwarded ports of dev containers."""

from __future__ import annotations

from zlh.api import ports
from zlh.api.answers import Ok
from zlh.api.routing import PORT, VMID, Route, Who
from zlh.model.access import Permission, Scope

BASE = f"/api/dev/{VMID}/ports"

PORTS = (
    Route(
        "GET",
        BASE,
        Who.SIGNED_IN,
        ports.list_ports,
        "Forwarded ports",
        ports.Ports,
        scope=Scope.IDE,
        permission=Permission.IDE,
    ),
    Route(
        "POST",
        BASE,
        Who.SIGNED_IN,
        ports.open_port,
        "Forward a port",
        ports.Port,
        201,
        ports.OpenPort,
        scope=Scope.IDE,
        permission=Permission.IDE,
        idempotent=True,
        audited="port.open",
    ),
    Route(
        "PATCH",
        f"{BASE}/{PORT}",
        Who.SIGNED_IN,
        ports.change_port,
        "Change who may come to a port, or its label",
        ports.Port,
        body=ports.ChangePort,
        scope=Scope.IDE,
        permission=Permission.IDE,
        audited="port.change",
    ),
    Route(
        "DELETE",
        f"{BASE}/{PORT}",
        Who.SIGNED_IN,
        ports.close_port,
        "Forward a port no more",
        Ok,
        scope=Scope.IDE,
        permission=Permission.IDE,
        audited="port.close",
    ),
    Route(
        "POST",
        f"{BASE}/{PORT}/token",
        Who.SIGNED_IN,
        ports.port_token,
        "A way to a forwarded port: for one minute, once",
        ports.PortToken,
        scope=Scope.IDE,
        permission=None,
        audited="port.token",
    ),
)
