"""The state and the power of a dev container's IDE."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from zlh.api.forwarding import DEV, Forwarded, Told
from zlh.model.access import Permission, Scope
from zlh.model.agent_calls import Feature


class CodeServer(Told):
    state: Literal["stopped", "starting", "running", "error"]
    port: Annotated[int, Field(ge=1, le=65535)]
    version: str | None = None


CODE_SERVER = (
    Forwarded(
        method="GET",
        path="code-server",
        summary="Whether the IDE runs",
        feature=Feature.CODE_SERVER,
        permission=Permission.IDE,
        scope=Scope.IDE,
        agent="/dev/code-server",
        answer=CodeServer,
        ctypes=DEV,
    ),
    *(
        Forwarded(
            method="POST",
            path=f"code-server/{verb}",
            summary=f"IDE: {verb}",
            feature=Feature.CODE_SERVER,
            permission=Permission.IDE,
            scope=Scope.IDE,
            agent=f"/dev/code-server/{verb}",
            status=202,
            ctypes=DEV,
            action=f"code_server.{verb}",
        )
        for verb in ("start", "stop", "restart")
    ),
)
