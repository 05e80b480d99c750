"""What the API document says of who may call what: ways of signing in, scopes, and what each operation needs."""

from __future__ import annotations

from typing import Any

from zlh.api.routing import SAFE, Route, Who
from zlh.model.access import Permission, Scope

ROLE = {Who.SIGNED_IN: "every signed-in account", Who.OPERATOR: "operators", Who.ADMIN: "administrators"}

SCOPES = {
    Scope.ACCOUNT_READ: "see the account itself and its audit record",
    Scope.SERVERS_READ: "see servers, their state and their operations",
    Scope.SERVERS_POWER: "start, stop and restart servers",
    Scope.SERVERS_WRITE: "create, resize and tear down servers",
    Scope.CONSOLE: "read consoles and type into them",
    Scope.FILES: "read and change servers' files",
    Scope.MODS: "install and remove mods",
    Scope.BACKUPS: "make, restore and delete backups",
    Scope.IDE: "open the hosted IDE",
    Scope.SCHEDULES: "make, change and delete schedules, each with the scope of what it does as well",
    Scope.SHARES: "share servers with others",
    Scope.BILLING: "see and change billing",
    Scope.OPERATOR: "what operators may; without it an operator's key is a customer's",
}

SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An access token, which signing in gives.",
    },
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "zlh_…",
        "description": "An API key. It may what its scopes say, within what its account may; an operation that does "
        "not name this scheme takes no API key.\n\n"
        + "\n".join(f"* `{scope.value}`: {meaning}" for scope, meaning in SCOPES.items()),
    },
}


def security(scope: Scope | None) -> list[dict[str, list[str]]]:
    """The ways of signing in that an operation takes, an API key with its scope."""
    return [{"bearer": []}, *([] if scope is None else [{"apiKey": [scope.value]}])]


def needs(route: Route) -> dict[str, Any]:
    """The operation's `security`, its needs in words, and the same for machines as `x-role` and `x-permission`."""
    if route.who is Who.PUBLIC:
        return {"security": []}
    permission = route.permission if "vmid" in route.parameters else None
    described: dict[str, Any] = {
        "security": security(route.scope),
        "description": _sentences(route, permission),
        "x-role": {Who.SIGNED_IN: "customer", Who.OPERATOR: "operator", Who.ADMIN: "admin"}[route.who],
    }
    if permission is not None:
        described["x-permission"] = permission.value
    return described


def _sentences(route: Route, permission: Permission | None) -> str:
    said = [f"For {ROLE[route.who]}."]
    if permission is Permission.OWN:
        said.append("Only the server's owner may do that.")
    elif permission is Permission.VIEW:
        said.append("Also for those with whom the server was shared.")
    elif permission is not None:
        said.append(f"Somebody with whom the server was shared needs the permission `{permission.value}`.")
    if route.scope is None:
        said.append("Not for API keys.")
    else:
        said.append(f"An API key needs the scope `{route.scope.value}`.")
    if route.suspended:
        said.append("A suspended account may, too.")
    if route.scope is not None and route.method not in SAFE:
        said.append("Not for an operator who only looks in a customer's place.")
    return " ".join(said)
