"""What a newcomer reads once all is up: where it is, who can sign in, what runs, and what to try."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from zlh.demo.people import people_of
from zlh.demo.plant import Plant
from zlh.demo.screen import Screen

COLOURS = {"running": "green", "stopped": "yellow", "host offline": "yellow"}


def summarize(screen: Screen, plant: Plant, servers: Sequence[dict[str, Any]]) -> None:
    screen.say(Text.assemble(("The API", "bold"), "  ", (plant.url, "bold cyan")))
    screen.say(_people(plant))
    screen.say(_servers(servers))
    screen.say()
    screen.say(Text("Try it in another terminal:", style="bold"))
    game = next(server["id"] for server in servers if server["type"] == "GAME")
    for why, command in commands(plant, game):
        screen.verbatim(f"# {why}", style="dim")
        screen.verbatim(command)
    screen.say()
    screen.say(
        f"[bold]Ctrl-C[/] stops everything; [dim]{escape(_short(plant))}[/] keeps it for the next run, "
        "[dim]--reset[/] starts over."
    )


def commands(plant: Plant, game: str) -> list[tuple[str, str]]:
    """What each does, and a command line for a POSIX shell with curl. The later ones use what the first kept."""
    kept = plant.place.secrets
    return [
        (
            "sign in and keep the token (10 minutes)",
            f"API={plant.url}; TOKEN={_sign_in('customer', kept.customer_password)}",
        ),
        ("your servers", 'curl -s -H "Authorization: Bearer $TOKEN" $API/api/servers'),
        ("stop the game", f'curl -s -H "Authorization: Bearer $TOKEN" -X POST $API/api/servers/{game}/game/stop'),
        (
            "restart the container and follow the operation as it happens",
            f'curl -sN -H "Authorization: Bearer $TOKEN" $API$(curl -s -H "Authorization: Bearer $TOKEN" '
            f"-X POST $API/api/servers/{game}/host/restart | grep -o '/api/operations/[^\"]*')/events",
        ),
        (
            "the supervision tree, as the operator",
            f'curl -s -H "Authorization: Bearer {_sign_in("operator", kept.operator_password)}" '
            "$API/api/operators/actors",
        ),
    ]


def _sign_in(identifier: str, password: str) -> str:
    body = f'{{"identifier":"{identifier}","password":"{password}"}}'
    return f"$(curl -s $API/api/auth/login -d '{body}' | grep -o '\"token\":\"[^\"]*' | cut -d'\"' -f4)"


def _people(plant: Plant) -> Table:
    table = Table.grid(padding=(0, 2))
    for person in people_of(plant.place):
        if person.key != "fleet" or plant.has_fleet:
            table.add_row(
                "  ", person.username, Text(person.password, style="bold"), Text(person.role.value, style="dim")
            )
    return table


def _servers(servers: Sequence[dict[str, Any]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for server in servers:
        state = Text(server["status"], style=COLOURS.get(server["status"], "red"))
        what = " ".join(filter(None, [server["runtime"], server["flavor"], server["version"]]))
        table.add_row("  ", server["id"], server["name"], state, what, Text(server["address"] or "", style="dim"))
    return table


def _short(plant: Plant) -> str:
    """The folder, from here where that is shorter."""
    folder = plant.place.folder
    try:
        return str(folder.relative_to(folder.cwd()))
    except ValueError:
        return str(folder)
