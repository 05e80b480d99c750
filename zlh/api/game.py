"""Who plays, and the console without a websocket."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints
from quart import Response

from zlh.api.answers import Answer
from zlh.api.bodies import Body, Query
from zlh.api.call import Call, json_response
from zlh.api.forwarding import GAME, Forwarded, Told, require_type
from zlh.model.access import Permission, Scope
from zlh.model.agent_calls import Feature
from zlh.model.servers import rfc3339

LONGEST_COMMAND = 4096
MOST_LINES = 10_000


def _one_line(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("must be one line without control characters")
    return text


class PlayersNow(Answer):
    """Who was on the server at `observedAt`."""

    online: int
    max: int
    names: list[str]
    observed_at: str


class PlayersQuery(Query):
    """`fresh` asks the agent instead of the cache."""

    fresh: bool = False


class TypeCommand(Body):
    command: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_COMMAND), AfterValidator(_one_line)]


class HistoryQuery(Query):
    """How many of the last lines."""

    lines: Annotated[int, Field(ge=1, le=MOST_LINES)] = 500


class History(Told):
    """The oldest line comes first."""

    lines: list[str]


async def players(call: Call, vmid: int) -> Response:
    require_type(call, vmid, GAME)
    query: PlayersQuery = call.query
    seen, at = await call.services.fleet.players(vmid, fresh=query.fresh)
    return json_response(
        {"online": seen.online, "max": seen.max, "names": list(seen.names), "observedAt": rfc3339(at)}
    )


CONSOLE = (
    Forwarded(
        method="POST",
        path="console/command",
        summary="Type one line into the console",
        feature=Feature.COMMAND,
        permission=Permission.CONSOLE,
        scope=Scope.CONSOLE,
        status=202,
        body=TypeCommand,
        action="console.command",
    ),
    Forwarded(
        method="GET",
        path="console/history",
        summary="The console's last lines",
        feature=Feature.HISTORY,
        permission=Permission.WATCH,
        scope=Scope.CONSOLE,
        answer=History,
        query=HistoryQuery,
        max_body=4 << 20,
        suspended=True,
    ),
)
