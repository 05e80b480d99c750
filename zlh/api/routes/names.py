"""The names that owners choose for their servers."""

from __future__ import annotations

from zlh.api import names
from zlh.api.routing import VMID, Route, Who
from zlh.model.access import Permission, Scope

ADDRESS = f"/api/servers/{VMID}/name"

NAMES = (
    Route(
        "PUT",
        ADDRESS,
        Who.SIGNED_IN,
        names.choose,
        "Choose the name that a server is found under",
        names.Renamed,
        body=names.ChooseName,
        scope=Scope.SERVERS_WRITE,
        permission=Permission.OWN,
        audited="container.rename",
    ),
    Route(
        "DELETE",
        ADDRESS,
        Who.SIGNED_IN,
        names.give_up,
        "Go back to the name that a server had from the beginning",
        names.Renamed,
        scope=Scope.SERVERS_WRITE,
        permission=Permission.OWN,
        audited="container.rename",
    ),
)
