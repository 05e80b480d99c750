"""A fleet of simulated agents that follows the containers of the simulated Proxmox."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from zlh.simulators.agent.agent import SimulatedAgent
from zlh.simulators.agent.faults import Fault, FaultName
from zlh.simulators.agent.http import Refusal, listen
from zlh.simulators.agent.machine import Durations

RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Member:
    """`boot` is the address and start of the container that this agent belongs to: another boot is another agent."""

    agent: SimulatedAgent
    boot: tuple[str, Any]
    scope: trio.CancelScope
    tried: trio.Event
    ended: trio.Event


class Fleet:
    """An agent for each running container that has an address. `light_from`: vmids from which on agents are light."""

    def __init__(
        self,
        nursery: trio.Nursery,
        data_dir: Path,
        bootstrap_token: str,
        *,
        port: int = 18888,
        durations: Durations | None = None,
        light_from: int | None = None,
    ) -> None:
        self._nursery = nursery
        self._data_dir = data_dir
        self._token = bootstrap_token
        self._port = port
        self._durations = durations
        self._light_from = light_from
        self._members: dict[int, Member] = {}
        self._seeds: dict[int, dict[str, Any]] = {}
        self._faults: dict[int, dict[FaultName, Fault]] = {}

    async def follow(self, containers: Iterable[Mapping[str, Any]]) -> None:
        """Brings the fleet in line with a complete list of containers: `vmid`, `running`, `address`,
        `started`, `template`."""
        wanted = {item["vmid"]: item for item in containers if not item.get("template")}
        boots = {
            vmid: (str(item["address"]), item.get("started"))
            for vmid, item in wanted.items()
            if item["running"] and item.get("address")
        }
        gone = [vmid for vmid, member in self._members.items() if boots.get(vmid) != member.boot]
        for vmid in gone:
            self._members[vmid].scope.cancel()
        for vmid in gone:
            await self._members.pop(vmid).ended.wait()
        self._forget(set(wanted))
        for vmid, boot in boots.items():
            if vmid not in self._members:
                self._begin(vmid, boot)

    def _begin(self, vmid: int, boot: tuple[str, Any]) -> None:
        agent = SimulatedAgent(
            boot[0],
            self._data_dir / str(vmid),
            self._token,
            port=self._port,
            durations=self._durations,
            light=self._light_from is not None and vmid >= self._light_from,
        )
        for fault in self._faults.get(vmid, {}).values():
            agent.faults.set(fault)
        member = Member(agent, boot, trio.CancelScope(), trio.Event(), trio.Event())
        self._members[vmid] = member
        self._nursery.start_soon(self._run, vmid, member)

    async def _run(self, vmid: int, member: Member) -> None:
        """Runs one agent until its scope is cancelled; an address that is taken is tried again."""
        try:
            with member.scope:
                while True:
                    try:
                        listener = listen(member.agent.address, member.agent.port)
                        break
                    except OSError as error:
                        print(f"agent {vmid}: {member.agent.address}: {error.strerror}", file=sys.stderr, flush=True)
                        member.tried.set()
                        await trio.sleep(RETRY_SECONDS)
                async with trio.open_nursery() as nursery:
                    await nursery.start(member.agent.run, listener)
                    member.tried.set()
                    if vmid in self._seeds:
                        member.agent.seed(self._seeds.pop(vmid))
        finally:
            member.ended.set()

    async def settle(self) -> None:
        """Waits until every agent listens, or has found its address taken."""
        for member in list(self._members.values()):
            await member.tried.wait()

    def _forget(self, known: set[int]) -> None:
        """A container that is gone takes its directory with it."""
        if not self._data_dir.is_dir():
            return
        for directory in self._data_dir.iterdir():
            if directory.name.isdigit() and int(directory.name) not in known:
                self._faults.pop(int(directory.name), None)
                shutil.rmtree(directory, ignore_errors=True)

    def seed(self, vmid: int, payload: dict[str, Any]) -> None:
        """Configures the agent as if it had been long ago, now or when its container appears."""
        member = self._members.get(vmid)
        if member is None or member.agent.state == "unknown":
            self._seeds[vmid] = payload
        else:
            member.agent.seed(payload)

    def choose(self, wish: Mapping[str, Any]) -> list[int]:
        """The vmids meant by `vmid`, `vmids`, `fraction` (chosen at random) or nothing (all); Refusal(400)."""
        vmid, vmids, fraction = wish.get("vmid"), wish.get("vmids"), wish.get("fraction")
        if isinstance(vmid, int):
            return [vmid]
        if isinstance(vmids, list) and all(isinstance(item, int) for item in vmids):
            return list(vmids)
        if isinstance(fraction, int | float) and 0 <= fraction <= 1:
            return sorted(random.sample(sorted(self._members), round(len(self._members) * fraction)))
        if vmid is vmids is fraction is None:
            return sorted({*self._members, *self._faults})
        raise Refusal(400, "`vmid` is a number, `vmids` a list of them, `fraction` between 0 and 1")

    def set_fault(self, vmids: Iterable[int], fault: Fault) -> None:
        """Also for containers that have no agent yet: it begins with the fault."""
        for vmid in vmids:
            self._faults.setdefault(vmid, {})[fault.name] = fault
            if vmid in self._members:
                self._members[vmid].agent.faults.set(fault)

    def clear_faults(self, vmids: Iterable[int], name: FaultName | None) -> None:
        for vmid in vmids:
            if name is None:
                self._faults.pop(vmid, None)
            else:
                self._faults.get(vmid, {}).pop(name, None)
            if vmid in self._members:
                self._members[vmid].agent.faults.clear(name)

    def as_list(self) -> list[dict[str, Any]]:
        return [
            {
                "vmid": vmid,
                "address": member.agent.address,
                "port": member.agent.port,
                "state": member.agent.state,
                "light": member.agent.light,
                "requests": member.agent.requests,
                "connections": member.agent.connections,
                "faults": [fault.as_dict() for fault in member.agent.faults],
            }
            for vmid, member in sorted(self._members.items())
        ]
