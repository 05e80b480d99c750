"""What the demo orders: one Minecraft server and one dev container."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import trio

from zlh.demo.portal import Portal
from zlh.demo.screen import Screen
from zlh.demo.timeline import Timeline

GAME: Mapping[str, Any] = {
    "ctype": "game",
    "name": "paper",
    "game": "minecraft",
    "variant": "paper",
    "version": "1.21.1",
    "memoryMiB": 2048,
}
DEV: Mapping[str, Any] = {
    "ctype": "dev",
    "name": "workbench",
    "runtime": "python",
    "version": "3.13",
    "memoryMiB": 1024,
}
TITLES = {"game": "Minecraft server (paper 1.21.1)", "dev": "dev container (Python 3.13)"}


async def present(portal: Portal) -> dict[str, int]:
    """The vmids of what earlier runs ordered, by type; the oldest of each."""
    rows = (await portal.get("/api/instances"))["rows"]
    return {row["ctype"]: row["vmid"] for row in sorted(rows, key=lambda row: row["vmid"], reverse=True)}


async def fulfil(portal: Portal, screen: Screen, wishes: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Orders all at once and shows how they come to life; their vmids by type. Raises RefusedError in a
    group."""
    wishes = tuple(wishes)
    timeline = Timeline(screen, [TITLES[wish["ctype"]] for wish in wishes])
    made: dict[str, int] = {}

    async def fulfil_one(wish: Mapping[str, Any]) -> None:
        answer = await portal.order(wish)
        made[wish["ctype"]] = answer["vmid"]
        await portal.follow(answer["operation"], partial(timeline.update, TITLES[wish["ctype"]]))

    with screen.drawing(timeline):
        async with trio.open_nursery() as nursery:
            for wish in wishes:
                nursery.start_soon(fulfil_one, wish)
    return made
