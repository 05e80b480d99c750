"""What there is for a suspended account's servers alone."""

from __future__ import annotations

from zlh.api import retrieval
from zlh.api.routing import VMID, Route, Who
from zlh.model.access import Permission, Scope

RETRIEVAL = (
    Route(
        "POST",
        f"/api/servers/{VMID}/retrieval",
        Who.SIGNED_IN,
        retrieval.retrieve,
        "Have a suspended server on for a while, without its game, so that its files and backups can be fetched",
        retrieval.Retrieving,
        202,
        retrieval.Retrieve,
        scope=Scope.SERVERS_POWER,
        permission=Permission.OWN,
        suspended=True,
        audited="host.retrieval",
    ),
)
