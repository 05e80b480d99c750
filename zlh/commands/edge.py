"""`zlh edge`: what is published where, asked of the API that runs."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from zlh.commands.asking import add_asking, ask, print_json
from zlh.commands.listing import WIDE
from zlh.commands.parsing import Commands
from zlh.settings import Settings

PATH = "/api/operators/edge"


def add(commands: Commands) -> None:
    edge = commands.add_parser("edge", help="where containers are published").add_subparsers(
        required=True, metavar="command"
    )
    for name, told, command in (
        ("list", "every target with its state", _list),
        ("diff", "what is not as wanted, target by target; changes nothing; exit status 1 where there is any", _diff),
        ("reconcile", "make everything as wanted now", _reconcile),
    ):
        parser = add_asking(edge, name, told)
        if command is not _list:
            parser.add_argument("--target", help="this one alone")
        parser.set_defaults(command=command)


async def _list(options: argparse.Namespace, settings: Settings) -> int:
    answer = await ask(options, settings, "GET", PATH)
    if options.json:
        return print_json(answer)
    targets: list[dict[str, Any]] = answer["targets"]
    if not targets:
        print("nothing is published anywhere: the settings name no target")
        return 0
    table = _table("target", "state", "wanted", "there", "owed", "blocked", "orphans", "last sync")
    for target in targets:
        state = {True: "ok", False: "behind", None: "not asked yet"}[target["reachable"]]
        counts = (target["owedCount"], target["blockedCount"], target["orphansCount"])
        there = "-" if target["actual"] is None else str(target["actual"])
        table.add_row(
            target["name"], state, str(target["wanted"]), there, *map(str, counts), target["syncedAt"] or "-"
        )
    _print(table)
    for target in targets:
        if target["error"]:
            print(f"{target['name']}: {target['error']} ({target['errorAt']})")
    return 0


async def _diff(options: argparse.Namespace, settings: Settings) -> int:
    answer = await ask(options, settings, "POST", f"{PATH}/reconcile", _wish(options, dry_run=True))
    return print_json(answer) if options.json else _show(answer["targets"], "as wanted")


async def _reconcile(options: argparse.Namespace, settings: Settings) -> int:
    answer = await ask(options, settings, "POST", f"{PATH}/reconcile", _wish(options, dry_run=False))
    if options.json:
        return print_json(answer)
    _show(answer["targets"], "nothing had to be changed")
    return int(any(target["error"] or target["blocked"] for target in answer["targets"]))


def _wish(options: argparse.Namespace, *, dry_run: bool) -> dict[str, Any]:
    return {"target": options.target, "dryRun": dry_run}


def _show(targets: list[dict[str, Any]], good: str) -> int:
    """1 where anything is not as wanted."""
    different = False
    for target in targets:
        lines = [*map(_changed, target["changes"]), *map(_blocked, target["blocked"])]
        lines += [f"  orphan   {_entry(entry)}: nobody knows its container" for entry in target["orphans"]]
        more = target["changesCount"] - len(target["changes"])
        if more > 0:
            lines.append(f"  and {more} more changes")
        if target["error"]:
            lines.append(f"  {target['error']}")
        different = different or bool(lines)
        print(f"{target['target']}: {'' if lines else good}".rstrip())
        for line in lines:
            print(line)
    return int(different)


def _changed(change: dict[str, Any]) -> str:
    return f"  {change['verb']:<8} {_entry(change['entry'])}: {change['reason']}"


def _blocked(one: dict[str, Any]) -> str:
    return f"  blocked  {_entry(one['entry'])}: somebody else has {_entry(one['holder'])} there"


def _entry(entry: dict[str, Any]) -> str:
    whose = f" ({entry['vmid']})" if entry["vmid"] else ""
    return f"{entry['kind']} {entry['name']} {entry['value']}{whose}"


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False, header_style="bold")


def _print(table: Table) -> None:
    console = Console(highlight=False)
    (console if console.is_terminal else Console(highlight=False, width=WIDE)).print(table)
