"""Containers: their life, their state and power, and whom they are shared with."""

from __future__ import annotations

from zlh.api import (
    answers,
    bodies,
    catalog,
    containers,
    ide,
    instances,
    operation_events,
    operations,
    server_events,
    servers,
    shares,
)
from zlh.api.routing import VMID, Route, Who
from zlh.model.access import Permission, Scope

PUBLIC, SIGNED_IN, OPERATOR = Who.PUBLIC, Who.SIGNED_IN, Who.OPERATOR
EVENTS = "text/event-stream"

CONTAINERS = (
    Route(
        "GET",
        "/api/instances",
        SIGNED_IN,
        instances.list_instances,
        "One's containers",
        answers.Instances,
        scope=Scope.SERVERS_READ,
        suspended=True,
    ),
    Route(
        "POST",
        "/api/instances",
        SIGNED_IN,
        instances.create_instance,
        "Create a container",
        answers.Created,
        202,
        bodies.CreateInstance,
        scope=Scope.SERVERS_WRITE,
        idempotent=True,
        audited="container.create",
    ),
    Route(
        "GET",
        f"/api/instances/{VMID}",
        SIGNED_IN,
        instances.one_instance,
        "One container",
        answers.OneInstance,
        scope=Scope.SERVERS_READ,
        suspended=True,
    ),
    Route(
        "DELETE",
        f"/api/containers/{VMID}",
        SIGNED_IN,
        containers.teardown,
        "Tear a container down",
        answers.TornDown,
        202,
        query=bodies.TeardownQuery,
        scope=Scope.SERVERS_WRITE,
        permission=None,
        audited="container.teardown",
    ),
    Route(
        "GET",
        "/api/containers/orphans",
        OPERATOR,
        containers.orphans,
        "What was left over",
        answers.Orphans,
        scope=Scope.OPERATOR,
    ),
    Route(
        "POST",
        "/api/containers/orphans/sweep",
        OPERATOR,
        containers.sweep,
        "Remove what was left over",
        answers.Swept,
        body=bodies.Sweep,
        scope=Scope.OPERATOR,
        idempotent=True,
        audited="orphans.sweep",
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
        scope=Scope.SERVERS_READ,
        suspended=True,
    ),
    Route(
        "GET",
        "/api/operations/<operation_id>",
        SIGNED_IN,
        operations.one_operation,
        "One operation with its steps",
        answers.OneOperation,
        scope=Scope.SERVERS_READ,
        suspended=True,
    ),
    Route(
        "GET",
        "/api/operations/<operation_id>/events",
        SIGNED_IN,
        operation_events.follow_operation,
        "Follow an operation; resumable with Last-Event-ID",
        None,
        scope=Scope.SERVERS_READ,
        suspended=True,
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
    scope=Scope.SERVERS_READ,
    suspended=True,
    websocket=True,
)

SERVERS = (
    Route(
        "GET",
        "/api/servers",
        SIGNED_IN,
        servers.list_servers,
        "One's servers",
        answers.Servers,
        scope=Scope.SERVERS_READ,
        suspended=True,
    ),
    Route(
        "GET",
        f"/api/servers/{VMID}",
        SIGNED_IN,
        servers.one_server,
        "One server",
        answers.OneServer,
        scope=Scope.SERVERS_READ,
        suspended=True,
    ),
    *(
        Route(
            "POST",
            f"/api/servers/{VMID}/game/{verb}",
            SIGNED_IN,
            servers.game(verb),
            f"Game: {verb}",
            answers.Ok,
            scope=Scope.SERVERS_POWER,
            permission=Permission.POWER,
            audited=f"game.{verb}",
            through_outages=True,
        )
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
            scope=Scope.SERVERS_POWER,
            permission=Permission.POWER,
            audited=f"host.{verb}",
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
        scope=Scope.SERVERS_WRITE,
        permission=Permission.OWN,
        audited="container.upgrade",
    ),
    SERVER_EVENTS,
)

DEV = (
    Route(
        "POST",
        f"/api/dev/{VMID}/ide-token",
        SIGNED_IN,
        ide.ide_token,
        "A way into the IDE: for one minute, once",
        ide.IdeToken,
        scope=Scope.IDE,
        permission=Permission.IDE,
        audited="ide.token",
    ),
)

SHARES = (
    Route(
        "GET",
        f"/api/servers/{VMID}/shares",
        SIGNED_IN,
        shares.list_shares,
        "With whom a container is shared",
        shares.Shares,
        scope=Scope.SHARES,
        permission=Permission.OWN,
    ),
    Route(
        "POST",
        f"/api/servers/{VMID}/shares",
        SIGNED_IN,
        shares.give,
        "Share a container with an e-mail address",
        shares.Shared,
        201,
        shares.GiveShare,
        scope=Scope.SHARES,
        permission=Permission.OWN,
        idempotent=True,
        audited="share.create",
    ),
    Route(
        "PATCH",
        f"/api/servers/{VMID}/shares/<share_id>",
        SIGNED_IN,
        shares.change,
        "Change what is given",
        shares.Shared,
        body=shares.ChangeShare,
        scope=Scope.SHARES,
        permission=Permission.OWN,
        audited="share.change",
    ),
    Route(
        "DELETE",
        f"/api/servers/{VMID}/shares/<share_id>",
        SIGNED_IN,
        shares.withdraw,
        "Take back what was given",
        answers.Ok,
        scope=Scope.SHARES,
        permission=Permission.OWN,
        audited="share.withdraw",
    ),
    Route(
        "GET",
        "/api/shares",
        SIGNED_IN,
        shares.list_received,
        "What others share with oneself",
        shares.ReceivedShares,
        scope=Scope.SHARES,
    ),
    Route(
        "DELETE",
        "/api/shares/<share_id>",
        SIGNED_IN,
        shares.leave,
        "Give back what others share",
        answers.Ok,
        scope=Scope.SHARES,
        audited="share.leave",
    ),
)

CATALOG = (
    Route("GET", "/api/catalog/game", PUBLIC, catalog.games, "Games, variants, versions", answers.GameCatalog),
    Route("GET", "/api/catalog/dev", PUBLIC, catalog.runtimes, "Runtimes and versions", answers.DevCatalog),
)
