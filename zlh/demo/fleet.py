"""Many running containers at once, for load tests: rows in the database, containers in Proxmox, configured agents."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from zlh.demo.place import Place
from zlh.model.accounts import Account
from zlh.model.containers import Container, ContainerType, Resources, Software
from zlh.model.games import agent_payload
from zlh.model.names import hostname
from zlh.parts import open_database
from zlh.settings import Settings, load_games
from zlh.store import containers as rows

FIRST_FLEET_VMID = 20_000
"""Far from the ranges that new containers get; agents from here on are light: no process of their own."""

SOFTWARE = Software(name="minecraft", variant="paper", version="1.21.1", world="world")
SIZE = Resources(memory_mib=256, cpu_cores=1, disk_gib=8)
PORTS = (25565,)
NODES = ("pve1", "pve2")
MARK, TAGS = "Managed by ZLH", "game;zlh"


class Fleet:
    """`config_dir` holds games.toml."""

    def __init__(self, place: Place, settings: Settings, config_dir: Path) -> None:
        self._place = place
        self._settings = settings
        self._games = load_games(config_dir / "games.toml")

    async def ensure(self, count: int, owner: Account, agents_control: str) -> int:
        """Makes those of the first `count` that are missing, before the API starts; returns how many. What a killed
        demo left half made is completed."""
        async with open_database(self._settings) as database:
            known = {row.vmid: row for row in await database.run(rows.of_owner, owner.id)}
            wanted = [FIRST_FLEET_VMID + index for index in range(count)]
            made = [self._row(vmid, owner.id) for vmid in wanted if vmid not in known]

            def write(connection: sa.Connection) -> None:
                rows.insert(connection, made)

            await database.run(write)
        await self._host([*made, *(known[vmid] for vmid in wanted if vmid in known)], agents_control)
        return len(made)

    async def _host(self, fleet: list[Container], agents_control: str) -> None:
        """Agents are told first: they begin configured when their container appears."""
        async with httpx.AsyncClient(timeout=120.0, trust_env=False, verify=False) as client:  # noqa: S501
            listed = (await client.get(f"{self._place.proxmox_control}/containers")).raise_for_status().json()
            present = {item["vmid"] for item in listed["containers"]}
            missing = [row for row in fleet if row.vmid not in present]
            if not missing:
                return
            seeds = [{"vmid": row.vmid, "config": agent_payload(row, self._games)} for row in missing]
            (await client.post(f"{agents_control}/seeds", json={"agents": seeds})).raise_for_status()
            body = {"containers": [_guest(row) for row in missing]}
            (await client.post(f"{self._place.proxmox_control}/containers", json=body)).raise_for_status()

    def _row(self, vmid: int, owner_id: int) -> Container:
        index, now = vmid - FIRST_FLEET_VMID, datetime.now(UTC)
        return Container(
            vmid=vmid,
            owner_id=owner_id,
            ctype=ContainerType.GAME,
            name=f"fleet {index + 1}",
            hostname=hostname(f"fleet {index + 1}", vmid, self._settings.containers.zone),
            software=SOFTWARE,
            resources=SIZE,
            ports=PORTS,
            agent_token=secrets.token_urlsafe(32),
            created_at=now,
            updated_at=now,
            node=NODES[index % len(NODES)],
            address=self._place.fleet_address(index),
            provisioned=True,
        )


def _guest(row: Container) -> dict[str, Any]:
    return {
        "vmid": row.vmid,
        "node": row.node,
        "hostname": row.hostname,
        "address": row.address,
        "memory": row.resources.memory_mib,
        "cores": row.resources.cpu_cores,
        "disk": row.resources.disk_gib,
        "description": f"{MARK}: {row.name}, account {row.owner_id}",
        "tags": TAGS,
    }
