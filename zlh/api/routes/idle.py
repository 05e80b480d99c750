"""The owner's wishes for the IDE of a dev container."""

from __future__ import annotations

from zlh.api import idle
from zlh.api.routing import VMID, Route, Who
from zlh.model.access import Permission, Scope

ADDRESS = f"/api/dev/{VMID}/code-server/settings"

IDLE = (
    Route(
        "GET",
        ADDRESS,
        Who.SIGNED_IN,
        idle.settings,
        "Settings of the IDE",
        idle.IdeSettings,
        scope=Scope.IDE,
        permission=Permission.IDE,
    ),
    Route(
        "PATCH",
        ADDRESS,
        Who.SIGNED_IN,
        idle.change_settings,
        "Change settings of the IDE: after how many idle minutes it is stopped",
        idle.IdeSettings,
        body=idle.ChangeIdeSettings,
        scope=Scope.IDE,
        permission=Permission.OWN,
        audited="code_server.settings",
    ),
)
