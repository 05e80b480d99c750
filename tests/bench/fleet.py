"""Many running containers at once: rows in the database, containers in Proxmox, configured agents."""

from __future__ import annotations

import secrets
import tomllib
from datetime import UTC, datetime
from typing import Any

import httpx

from tests.plain import PLAIN
from zlh.__main__ import CONFIG
from zlh.model.containers import Container, ContainerType, Resources, Software
from zlh.model.games import agent_payload, parse_games
from zlh.model.names import hostname
from zlh.parts import open_database
from zlh.settings import Settings
from zlh.store import containers as rows

FIRST_VMID = 20_000
AT_ONCE = 250
SOFTWARE = Software(name="minecraft", variant="paper", version="1.21.1", world="world")
RUNTIME = Software(name="python", version="3.12")
SIZE = Resources(memory_mib=256, cpu_cores=1, disk_gib=8)


class Fleet:
    """`network` is the first two octets of every address."""

    def __init__(self, network: str, proxmox_control: str, agents_control: str) -> None:
        self._network = network
        self._proxmox_control = proxmox_control
        self._agents_control = agents_control
        self._rows: dict[int, Container] = {}
        self._games = parse_games(tomllib.loads((CONFIG.parent / "games.toml").read_text("utf-8")))

    def address(self, vmid: int) -> str:
        index = vmid - FIRST_VMID
        return f"{self._network}.{128 + index // 254}.{1 + index % 254}"

    def payload(self, vmid: int) -> dict[str, Any]:
        """What its agent was configured with, or would have been."""
        return agent_payload(self._rows[vmid], self._games)

    async def add(
        self, settings: Settings, owner_id: int, count: int, ctype: ContainerType = ContainerType.GAME
    ) -> list[int]:
        """So many more containers of that owner; returns their vmids."""
        begin = FIRST_VMID + len(self._rows)
        vmids = range(begin, begin + count)
        made = [self._row(vmid, owner_id, settings.containers.zone, ctype) for vmid in vmids]
        self._rows.update((row.vmid, row) for row in made)
        async with open_database(settings) as database:
            await database.run(rows.insert, made)
        async with httpx.AsyncClient(timeout=120.0, trust_env=False, verify=PLAIN) as client:
            for done in range(0, count, AT_ONCE):
                await self._host(client, made[done : done + AT_ONCE])
        return list(vmids)

    async def _host(self, client: httpx.AsyncClient, some: list[Container]) -> None:
        """Agents are told first: they begin configured when their container appears."""
        if self._agents_control:
            seeds = [{"vmid": row.vmid, "config": self.payload(row.vmid)} for row in some]
            (await client.post(f"{self._agents_control}/seeds", json={"agents": seeds})).raise_for_status()
        body = {"containers": [_guest(row) for row in some]}
        (await client.post(f"{self._proxmox_control}/containers", json=body)).raise_for_status()

    def _row(self, vmid: int, owner_id: int, zone: str, ctype: ContainerType) -> Container:
        now = datetime.now(UTC)
        name = f"server {vmid}"
        return Container(
            vmid=vmid,
            owner_id=owner_id,
            ctype=ctype,
            name=name,
            hostname=hostname(name, vmid, zone),
            software=SOFTWARE if ctype is ContainerType.GAME else RUNTIME,
            resources=SIZE,
            ports=(25565,) if ctype is ContainerType.GAME else (),
            agent_token=secrets.token_urlsafe(32),
            created_at=now,
            updated_at=now,
            node=f"pve{1 + vmid % 2}",
            address=self.address(vmid),
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
        "description": f"Managed by ZLH: {row.name}, account {row.owner_id}",
        "tags": f"{row.ctype.value};zlh",
    }
