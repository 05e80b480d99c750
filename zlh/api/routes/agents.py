"""What is passed on to agents: files, players, console, mods, the IDE's power, the agent's own update."""

from __future__ import annotations

from zlh.api import agent_update, game
from zlh.api.code_server import CODE_SERVER
from zlh.api.files import FILES
from zlh.api.forwarding import routes
from zlh.api.mods import MODS
from zlh.api.routing import VMID, Route, Who
from zlh.model.access import Permission, Scope

PLAYERS = Route(
    "GET",
    f"/api/game/{VMID}/players",
    Who.SIGNED_IN,
    game.players,
    "Who plays",
    game.PlayersNow,
    query=game.PlayersQuery,
    scope=Scope.SERVERS_READ,
    permission=Permission.VIEW,
)

VERSION = Route(
    "GET",
    f"{agent_update.AGENT}/version",
    Who.SIGNED_IN,
    agent_update.version,
    "The agent's version, as last heard",
    agent_update.AgentVersion,
    scope=Scope.SERVERS_READ,
)

AGENTS = (
    PLAYERS,
    VERSION,
    *routes((*game.CONSOLE, *FILES, *MODS, *CODE_SERVER, *agent_update.UPDATES)),
)
