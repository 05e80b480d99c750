"""Every route, and for each who may call it. This is the one place that says so."""

from __future__ import annotations

import functools

import orjson
from quart import Response

from zlh.api import (
    answers,
    auth,
    bodies,
    catalog,
    containers,
    health,
    instances,
    metrics,
    operation_events,
    operations,
    operators,
    server_events,
    servers,
)
from zlh.api.call import Call, raw_json
from zlh.api.document import describe
from zlh.api.routing import VMID, Route, Who

PUBLIC, SIGNED_IN, OPERATOR = Who.PUBLIC, Who.SIGNED_IN, Who.OPERATOR
TEXT = "text/plain"
EVENTS = "text/event-stream"


@functools.cache
def rendered_document() -> bytes:
    return orjson.dumps(describe(ROUTES))


async def openapi(call: Call) -> Response:
    return raw_json(rendered_document())


AUTH = (
    Route("POST", "/api/auth/register", PUBLIC, auth.register, "Register", answers.Registered, 201, bodies.Register),
    Route("POST", "/api/auth/login", PUBLIC, auth.login, "Sign in", answers.SignedIn, body=bodies.Login),
    Route("POST", "/api/auth/refresh", PUBLIC, auth.refresh, "Next tokens", answers.SignedIn, body=bodies.Refresh),
    Route("POST", "/api/auth/logout", SIGNED_IN, auth.logout, "Sign out", answers.Ok, suspended=True),
    Route("GET", "/api/auth/me", SIGNED_IN, auth.me, "One's own account", answers.Me, suspended=True),
    Route("PATCH", "/api/auth/me", SIGNED_IN, auth.change_me, "Change one's names", answers.Me, body=bodies.Profile),
    Route(
        "GET",
        "/api/users/profile",
        SIGNED_IN,
        auth.profile,
        "One's plan and billing",
        answers.BillingProfile,
        suspended=True,
    ),
)

CONTAINERS = (
    Route("GET", "/api/instances", SIGNED_IN, instances.list_instances, "One's containers", answers.Instances),
    Route(
        "POST",
        "/api/instances",
        SIGNED_IN,
        instances.create_instance,
        "Create a container",
        answers.Created,
        202,
        bodies.CreateInstance,
        idempotent=True,
    ),
    Route("GET", f"/api/instances/{VMID}", SIGNED_IN, instances.one_instance, "One container", answers.OneInstance),
    Route(
        "DELETE",
        f"/api/containers/{VMID}",
        SIGNED_IN,
        containers.teardown,
        "Tear a container down",
        answers.TornDown,
        202,
        query=bodies.TeardownQuery,
        owned=False,
    ),
    Route("GET", "/api/containers/orphans", OPERATOR, containers.orphans, "What was left over", answers.Orphans),
    Route(
        "POST",
        "/api/containers/orphans/sweep",
        OPERATOR,
        containers.sweep,
        "Remove what was left over",
        answers.Swept,
        body=bodies.Sweep,
        idempotent=True,
    ),
)

OPERATIONS = (
    Route(
        "GET",
        "/api/operations",
        SIGNED_IN,
        operations.list_operations,
        "Operations, the newest first",
        answers.OperationPage,
        query=bodies.OperationsQuery,
    ),
    Route(
        "GET",
        "/api/operations/<operation_id>",
        SIGNED_IN,
        operations.one_operation,
        "One operation with its steps",
        answers.OneOperation,
    ),
    Route(
        "GET",
        "/api/operations/<operation_id>/events",
        SIGNED_IN,
        operation_events.follow_operation,
        "Follow an operation; resumable with Last-Event-ID",
        None,
        media=EVENTS,
    ),
)

SERVER_EVENTS = Route(
    "GET",
    "/api/servers/events",
    SIGNED_IN,
    server_events.server_events,
    "Websocket: a snapshot of one's servers, then what changes",
    None,
    101,
    websocket=True,
)

SERVERS = (
    Route("GET", "/api/servers", SIGNED_IN, servers.list_servers, "One's servers", answers.Servers),
    Route("GET", f"/api/servers/{VMID}", SIGNED_IN, servers.one_server, "One server", answers.OneServer),
    *(
        Route("POST", f"/api/servers/{VMID}/game/{verb}", SIGNED_IN, servers.game(verb), f"Game: {verb}", answers.Ok)
        for verb in ("start", "stop", "restart", "kill")
    ),
    *(
        Route(
            "POST",
            f"/api/servers/{VMID}/host/{verb}",
            SIGNED_IN,
            servers.host(verb),
            f"Container: {verb}",
            answers.HostPower,
            202,
        )
        for verb in ("start", "stop", "restart")
    ),
    Route(
        "PUT",
        f"/api/servers/{VMID}/upgrade",
        SIGNED_IN,
        servers.upgrade,
        "Change a container's size within the plan",
        answers.Upgraded,
        202,
        bodies.Upgrade,
    ),
    SERVER_EVENTS,
)

CATALOG = (
    Route("GET", "/api/catalog/game", PUBLIC, catalog.games, "Games, variants, versions", answers.GameCatalog),
    Route("GET", "/api/catalog/dev", PUBLIC, catalog.runtimes, "Runtimes and versions", answers.DevCatalog),
)

ACTOR = "/api/operators/actors/<path:path>"

MACHINES = (
    Route("GET", "/api/health", PUBLIC, health.health, "This process answers", answers.Health),
    Route("GET", "/api/ready", PUBLIC, health.ready, "All that it needs answers", answers.Ready),
    Route("GET", "/api/openapi.json", PUBLIC, openapi, "This document", None),
    Route("GET", "/metrics", PUBLIC, metrics.metrics, "Prometheus metrics", None, media=TEXT),
    Route("GET", "/api/operators/actors", OPERATOR, operators.actors, "The supervision tree", answers.ActorTree),
    Route("GET", ACTOR, OPERATOR, operators.one_actor, "One part of the tree", answers.OneActor),
    Route("POST", f"{ACTOR}/restart", OPERATOR, operators.restart, "Restart an actor", answers.Ok),
    Route("POST", f"{ACTOR}/release", OPERATOR, operators.release, "End a quarantine now", answers.Ok),
)

ROUTES: tuple[Route, ...] = (*AUTH, *CONTAINERS, *OPERATIONS, *SERVERS, *CATALOG, *MACHINES)
