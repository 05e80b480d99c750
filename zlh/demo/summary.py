"""What a newcomer reads once all is up: where it is, who can sign in, what runs, and what to try."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from zlh.demo.people import people_of
from zlh.demo.plant import Plant
from zlh.demo.screen import Screen

COLOURS = {"running": "green", "stopped": "yellow", "host offline": "yellow"}


def summarize(screen: Screen, plant: Plant, servers: Sequence[dict[str, Any]]) -> None:
    screen.say(Text.assemble(("Ready: ", "bold"), (plant.url, "bold cyan")))
    screen.say(_people(plant))
    screen.say(_servers(servers))
    screen.say()
    screen.say(Text("Try it in another terminal", style="bold"))
    game = next(server["id"] for server in servers if server["type"] == "GAME")
    for why, command in commands(plant, game):
        screen.verbatim(f"# {why}", style="dim")
        screen.verbatim(command)
    screen.say()
    screen.say(f"Players reach the game at [cyan]{plant.outside.players}[/], where its name in DNS leads.")
    screen.say(f"Other games get public ports of their own at [cyan]{plant.place.routes_host}[/], through Traefik.")
    screen.say(f"E-mail is not sent: each message becomes a file in [cyan]{escape(_short(plant.place.mail))}[/].")
    screen.say(
        f"[bold]Ctrl-C[/] stops everything; [cyan]{escape(_short(plant.place.folder))}[/] keeps it for the next run, "
        "[cyan]--reset[/] starts over."
    )


def commands(plant: Plant, game: str) -> list[tuple[str, str]]:
    """What each does, and lines for a POSIX shell with curl. The later ones use what the first kept."""
    kept = plant.place.secrets
    bearer = 'curl -sH "Authorization: Bearer $TOKEN"'
    return [
        (
            "sign in; the token lasts for ten minutes",
            f"API={plant.url}\nTOKEN=$({_sign_in('customer', kept.customer_password)})",
        ),
        ("your servers", f"{bearer} $API/api/servers | python3 -m json.tool"),
        ("stop the game", f"{bearer} -X POST $API/api/servers/{game}/game/stop"),
        (
            "restart its container, and follow the operation as it happens",
            f"{bearer} -X POST $API/api/servers/{game}/host/restart \\\n"
            f"  | grep -o '/api/operations/[^\"]*' \\\n"
            f'  | xargs -I{{}} curl -sNH "Authorization: Bearer $TOKEN" "$API{{}}/events"',
        ),
        (
            "the supervision tree, as the operator",
            f"TOKEN=$({_sign_in('operator', kept.operator_password)})\n"
            f"{bearer} $API/api/operators/actors | python3 -m json.tool",
        ),
        (
            "a page on which the newcomer, who has no plan, pays for one (no money moves): open it in a browser",
            f"TOKEN=$({_sign_in('newcomer', kept.newcomer_password)})\n"
            f'{bearer} $API/api/billing/checkout -d \'{{"plan":"starter"}}\' | cut -d\'"\' -f4',
        ),
        ("what came of it", f"{bearer} $API/api/billing | python3 -m json.tool"),
    ]


def _sign_in(identifier: str, password: str) -> str:
    body = f'{{"identifier":"{identifier}","password":"{password}"}}'
    return f"curl -s $API/api/auth/login \\\n  -d '{body}' | cut -d'\"' -f4"


def _people(plant: Plant) -> Padding:
    table = _table("user", "password", "role")
    for person in people_of(plant.place, fleet=plant.has_fleet):
        table.add_row(person.username, Text(person.password, style="bold"), Text(person.role.value, style="dim"))
    return Padding(table, (1, 0, 0, 2))


def _servers(servers: Sequence[dict[str, Any]]) -> Padding:
    table = _table("server", "name", "state", "what", "address")
    for server in servers:
        state = Text(server["status"], style=COLOURS.get(server["status"], "red"))
        what = " ".join(filter(None, [server["runtime"], server["flavor"], server["version"]]))
        table.add_row(server["id"], server["name"], state, what, Text(server["address"] or "", style="dim"))
    return Padding(table, (1, 0, 0, 2))


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 3, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def _short(folder: Path) -> str:
    """The folder, as seen from here where that is shorter."""
    try:
        return str(folder.relative_to(folder.cwd()))
    except ValueError:
        return str(folder)
