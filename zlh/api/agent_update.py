"""The agent itself: its version, and its update."""

from __future__ import annotations

from typing import Literal

from quart import Response

from zlh.api.answers import Answer
from zlh.api.call import Call, json_response
from zlh.api.forwarding import Forwarded, Told
from zlh.api.routing import VMID
from zlh.model.access import Permission, Scope
from zlh.model.agent_calls import Feature

AGENT = f"/api/servers/{VMID}/agent"


class AgentVersion(Answer):
    """As last heard; null while the agent has not told. `updateAvailable` too."""

    version: str | None
    commit: str | None
    update_available: bool | None


class AgentUpdate(Told):
    current: str
    latest: str
    available: bool
    state: Literal["idle", "updating", "failed"]


async def version(call: Call, vmid: int) -> Response:
    agent = call.services.fleet.server(vmid).agent
    return json_response(
        {
            "version": agent.version.version if agent.version else None,
            "commit": agent.version.commit if agent.version else None,
            "updateAvailable": agent.update.available if agent.update else None,
        }
    )


UPDATES = (
    Forwarded(
        method="GET",
        path="update",
        summary="Whether the agent could be updated, or is being",
        feature=Feature.UPDATE,
        permission=Permission.VIEW,
        scope=Scope.SERVERS_READ,
        base=AGENT,
        answer=AgentUpdate,
    ),
    Forwarded(
        method="POST",
        path="update",
        summary="Let the agent update itself; it is away for a moment then",
        feature=Feature.UPDATE,
        permission=Permission.OWN,
        scope=Scope.SERVERS_WRITE,
        base=AGENT,
        status=202,
        action="agent.update",
    ),
)
