"""Single steps towards Proxmox, against a scripted driver: what they answer, and what they leave alone."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import trio

from tests.containers.samples import a_row, an_operation
from tests.containers.scripted import Agent
from zlh.containers.options import Options
from zlh.containers.steps import TRIED, Again, Done, Failed, Job, Outcome, Site, Taken, Task, base
from zlh.containers.steps.agent import AwaitAgent, AwaitRunning
from zlh.containers.steps.base import MARK, Step
from zlh.containers.steps.host import Address, Clone, Configure, Destroy, Shutdown, Start
from zlh.containers.turnstile import Turnstile
from zlh.drivers.errors import NotFound, Refused, Unreachable
from zlh.drivers.proxmox import Cluster, GuestConfig, GuestStatus
from zlh.model.operations import Operation, OperationKind

OURS = GuestConfig(
    hostname="test-5001",
    description=f"{MARK}: Test, account 7",
    memory_mib=1024,
    swap_mib=0,
    cores=1,
    disk_gib=8.0,
    net0="name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth",
    lock="",
    tags=("game", "zlh"),
    onboot=True,
    template=False,
    digest="d",
)
UNFINISHED = replace(OURS, hostname="CT5001", description="", tags=(), lock="create")
FOREIGN = replace(OURS, hostname="somebody-elses", description="", tags=())
# Marked by us, but long ago: the vmid was used again.
ANOTHER_OF_OURS = replace(OURS, hostname="other-5001")


class Proxmox:
    """Has one container, or none. `changed` names the mutations that were asked for."""

    def __init__(self, config: GuestConfig | None, *, running: bool = True) -> None:
        self.found = config
        self.running = running
        self.interfaces: tuple[str, ...] = ()
        self.asked: list[str] = []
        self.changed: list[str] = []

    async def config(self, node: str, vmid: int) -> GuestConfig:
        await trio.lowlevel.checkpoint()
        if self.found is None:
            raise NotFound("does not exist")
        return self.found

    async def status(self, node: str, vmid: int) -> GuestStatus:
        await trio.lowlevel.checkpoint()
        return GuestStatus(self.running, "", 60, 0, 0)

    async def addresses(self, node: str, vmid: int) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        self.asked.append("addresses")
        return self.interfaces

    def __getattr__(self, name: str) -> Any:
        async def change(*_where: object, **_what: object) -> str:
            await trio.lowlevel.checkpoint()
            self.changed.append(name)
            return "UPID:pve1:00000001:00000001:65E1A2B3:vzsomething:5001:root@pam:"

        return change


async def _kept(_data: object) -> None:
    await trio.lowlevel.checkpoint()


def job(proxmox: Any, *, pool: tuple[str, ...] = (), networks: tuple[str, ...] = (), **changes: Any) -> Job:
    site = Site(
        proxmox=proxmox,
        options=Options(address_pool=pool, networks=networks),
        games=None,
        clones=Turnstile(1, lambda _vmid: None),
        mutations=Turnstile(4, lambda _vmid: None),
        cluster=lambda: Cluster((), ()),
        pending_memory=lambda _node: 0,
    )
    return Job(site, a_row(**changes), an_operation(), _kept, lambda _running: None)


async def test_what_is_being_made_is_waited_for_and_not_judged() -> None:
    proxmox = Proxmox(UNFINISHED, running=False)
    for outcome in (
        await Clone().do(job(proxmox)),
        await Clone().undo(job(proxmox)),
        await Destroy().do(job(proxmox)),
    ):
        assert isinstance(outcome, Again)
    proxmox.found = OURS
    assert isinstance(await Clone().do(job(proxmox)), Done)
    assert isinstance(await Clone().undo(job(proxmox)), Task)
    assert proxmox.changed == ["destroy"]


@pytest.mark.parametrize("found", [FOREIGN, ANOTHER_OF_OURS])
@pytest.mark.parametrize("step", [Clone(), Configure(), Start(), Shutdown(), Destroy()])
async def test_somebody_elses_container_is_left_alone(found: GuestConfig, step: Step) -> None:
    for running in (True, False):
        proxmox = Proxmox(found, running=running)
        done: Outcome = await step.do(job(proxmox))
        assert not isinstance(done, Task | Again)
        assert isinstance(done, Taken) == isinstance(step, Clone)
        assert isinstance(done, Failed) == isinstance(step, Configure | Start)
        assert isinstance(await step.undo(job(proxmox)), Done)
        assert proxmox.changed == []


async def test_a_clone_of_the_right_size_still_gets_its_tag() -> None:
    proxmox = Proxmox(replace(OURS, tags=()))
    assert isinstance(await Configure().do(job(proxmox)), Done)
    assert proxmox.changed == ["configure"]
    proxmox = Proxmox(OURS)
    assert isinstance(await Configure().do(job(proxmox)), Done)
    assert proxmox.changed == []


async def test_an_upgrade_of_what_is_gone_has_nothing_to_take_back() -> None:
    proxmox = Proxmox(None)
    one = job(proxmox)
    upgrade = an_operation(
        OperationKind.UPGRADE, arguments={"before": {"memory_mib": 512, "cpu_cores": 1, "disk_gib": 8}}
    )
    assert isinstance(await Configure().undo(replace(one, operation=upgrade)), Done)
    assert proxmox.changed == []
    proxmox.found = OURS
    assert isinstance(await Configure().undo(replace(one, operation=upgrade)), Done)
    assert proxmox.changed == ["configure"]


@pytest.mark.parametrize("step", [AwaitAgent(), AwaitRunning()])
async def test_an_agent_with_trouble_of_its_own_is_asked_again(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent()
    agent.answers["health"] = agent.answers["status"] = Refused("/health: not yet", status=503)
    monkeypatch.setattr(base, "AgentClient", agent.client)
    with pytest.raises(Unreachable) if isinstance(step, AwaitRunning) else nullcontext():
        assert isinstance(await step.do(job(Proxmox(OURS))), Again)


async def test_an_address_of_dhcp_is_looked_up_after_every_start() -> None:
    proxmox = Proxmox(OURS)
    assert isinstance(await Address().do(job(proxmox)), Again), "an old address says nothing of the new one"
    proxmox.interfaces = ("fd00::5", "10.0.0.5")
    moved = await Address().do(job(proxmox))
    assert isinstance(moved, Done)
    assert moved.row == {"address": "10.0.0.5"}
    same = await Address().do(job(proxmox, address="10.0.0.5"))
    assert isinstance(same, Done)
    assert same.row == {}
    proxmox.asked.clear()
    pooled = await Address().do(job(proxmox, pool=("10.1.0.1",), address="10.1.0.1"))
    assert isinstance(pooled, Done)
    assert proxmox.asked == []


@pytest.mark.parametrize(
    ("claimed", "wanted"),
    [
        (("192.0.2.1", "10.60.1.5"), "10.60.1.5"),
        (("192.0.2.1", "fd00:60::5"), "fd00:60::5"),
        (("192.0.2.1",), None),
        (("127.0.0.1", "::1"), None),
    ],
)
async def test_an_address_of_another_network_is_not_believed(claimed: tuple[str, ...], wanted: str | None) -> None:
    proxmox = Proxmox(OURS)
    proxmox.interfaces = claimed
    networks = ("10.60.0.0/22", "fd00:60::/64")
    outcome = await Address().do(job(proxmox, networks=networks, address="192.0.2.1"))
    if wanted is None:
        assert isinstance(outcome, Again)
        assert "in no network of containers" in outcome.note
    else:
        assert isinstance(outcome, Done)
        assert outcome.row == {"address": wanted}


async def test_what_another_container_has_is_passed_over_and_looked_for_again() -> None:
    proxmox = Proxmox(OURS)
    proxmox.interfaces = ("10.0.0.5", "fd00::5")
    remembered: list[object] = []

    async def remember(data: object) -> None:
        await trio.lowlevel.checkpoint()
        remembered.append(data)

    one = replace(job(proxmox), remember=remember)
    for tried, wanted in ((["10.0.0.5"], "fd00::5"), (["fd00::5"], "10.0.0.5")):
        outcome = await Address().do(replace(one, operation=_with_tried(tried)))
        assert isinstance(outcome, Done)
        assert outcome.row == {"address": wanted}
    outcome = await Address().do(replace(one, operation=_with_tried(["10.0.0.5", "fd00::5"])))
    assert isinstance(outcome, Again)
    assert "another container has the address 10.0.0.5 and fd00::5" in outcome.note
    assert remembered == [{TRIED: None}]


def _with_tried(tried: list[str]) -> Operation:
    begun = an_operation(OperationKind.START_HOST)
    steps = tuple(replace(step, data={TRIED: tried}) if step.name == "address" else step for step in begun.steps)
    return replace(begun, steps=steps)
