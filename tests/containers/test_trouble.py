"""A world that does not do as it is told: locks, lost answers, other people's containers, nodes that are away."""

from __future__ import annotations

import json

import pytest
import trio

from tests.stack import Agents, Stack, open_stack, until
from zlh.containers import reconcile
from zlh.model.access import Sight
from zlh.model.containers import Desired, Power
from zlh.model.operations import StepState
from zlh.simulators.proxmox.client import Cluster
from zlh.store import containers

FOREIGN = {"vmid": 5000, "hostname": "somebody-elses", "address": "127.65.0.1", "node": "pve1"}


async def mutations(stack: Stack, vmid: int) -> list[str]:
    """What Proxmox was asked to change about that container."""
    asked = await stack.requests()
    return [f"{method} {path}" for method, path, _body in asked if method != "GET" and f"/lxc/{vmid}" in path]


async def test_a_held_lock_is_waited_for(stack: Stack) -> None:
    await stack.cluster.cause("lock-timeouts", times=3)
    operation = await stack.create()
    await stack.succeeds(operation)
    await stack.cluster.cause("locked", vmid=operation.vmid, lock="backup")
    stopping = await stack.fleet.stop_host(operation.vmid)
    await stack.step(stopping, "shutdown")

    async def told() -> bool:
        note = (await stack.fleet.operation(stopping.id)).step("shutdown").note
        return "locked" in (note or "")

    await until(told)
    assert (await stack.cluster.containers())[operation.vmid]["running"]
    await stack.cluster.calm()
    await stack.succeeds(stopping)


async def test_a_clone_whose_answer_was_lost_is_found_again(stack: Stack) -> None:
    await stack.cluster.cause("lost-answer", path="/clone$", method="POST", times=1)
    operation = await stack.succeeds(await stack.create())
    assert operation.vmid == 5000
    assert list(await stack.cluster.containers()) == [5000]
    clones = [body for _method, path, body in await stack.requests() if path.endswith("/clone")]
    assert len([body for body in clones if "newid=5000" in body]) == 1


async def test_time_in_line_is_not_the_steps_own(postgres_url: str, proxmox: Cluster, agents: Agents) -> None:
    async with open_stack(postgres_url, proxmox, agents, clone_seconds=4.0) as stack:
        template = stack.fleet._crew.site.clones
        assert template.enter("9000", 4711)
        operation = await stack.create()
        await stack.step(operation, "clone")
        await trio.sleep(7.5)
        assert "another clone" in ((await stack.fleet.operation(operation.id)).step("clone").note or "")
        template.leave(4711)
        await stack.succeeds(operation)


async def test_a_lost_clone_is_taken_back_with_the_rest(stack: Stack) -> None:
    """Deleted while Proxmox still makes it, and nobody heard the task's name: no orphan is left."""
    await stack.cluster.cause("task-hangs", type="vzclone", vmid=5000)
    await stack.cluster.cause("lost-answer", path="/clone$", method="POST", times=1)
    operation = await stack.create()

    async def being_made() -> bool:
        return 5000 in await stack.cluster.containers()

    await until(being_made)
    ended = await stack.fleet.teardown(5000, force=True)
    assert ended.id == operation.id
    # Long enough to look at it a few times while it has no name yet.
    await trio.sleep(2.5)
    await stack.cluster.calm()
    await stack.compensated(operation)
    await stack.gone(5000)


async def test_a_taken_vmid_is_left_alone_and_the_next_is_used(stack: Stack) -> None:
    await stack.cluster.create([FOREIGN])
    # Where the cluster's list shows it, its number is not even tried.
    await stack.cluster.cause("hidden", vmid=5000)
    operation = await stack.create("Mine")
    assert operation.vmid == 5000
    ended = await stack.succeeds(operation)
    assert ended.vmid == 5001
    row = stack.fleet.container(5001)
    assert row.hostname == "mine-5001.zlh.localhost"
    assert 5000 not in stack.fleet.projection
    assert stack.owners == {5000: None, 5001: stack.account.id}
    await stack.status(5001, "running")
    assert await mutations(stack, 5000) == []
    assert (await stack.cluster.containers())[5000]["hostname"] == "somebody-elses"


async def test_a_listed_vmid_is_not_even_tried(stack: Stack) -> None:
    await stack.cluster.create([FOREIGN])

    async def seen() -> bool:
        cluster = stack.fleet.watcher.cluster
        return cluster is not None and any(guest.vmid == 5000 for guest in cluster.guests)

    await until(seen)
    assert (await stack.create()).vmid == 5001


async def test_somebody_elses_container_under_our_vmid_is_never_touched(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.cluster.delete(vmid)
    await stack.cluster.create([FOREIGN])
    before = len(await mutations(stack, vmid))
    await stack.status(vmid, "error")
    for operation in (stack.fleet.stop_host, stack.fleet.restart_host, stack.fleet.start_host):
        ended = await stack.ended(await operation(vmid))
        assert ended.state.final
    await stack.succeeds(await stack.fleet.teardown(vmid, force=True))
    assert (await mutations(stack, vmid))[before:] == []
    left = (await stack.cluster.containers())[vmid]
    assert (left["hostname"], left["running"]) == ("somebody-elses", True)
    assert await stack.db.run(containers.get, vmid) is None


@pytest.mark.parametrize("step", ["clone", "start", "running"])
async def test_a_half_made_container_can_be_deleted(stack: Stack, step: str) -> None:
    await stack.agents.cause("install_hangs", vmid=5000)
    if step != "running":
        await stack.cluster.cause("slow", seconds=0.3, path="/tasks/")
    operation = await stack.create()
    await stack.step(operation, step)
    ended = await stack.fleet.teardown(5000)
    assert (ended.id, ended.state.value) == (operation.id, "compensating")
    assert stack.fleet.server(5000).status == "deleting"
    again = await stack.fleet.teardown(5000)
    assert again.id == operation.id
    ended = await stack.compensated(operation)
    assert "not wanted" in (ended.error or "")
    await stack.gone(5000)


async def test_what_proxmox_still_does_is_let_to_its_end_before_it_is_undone(stack: Stack) -> None:
    await stack.cluster.cause("task-hangs", type="vzstart", vmid=5000)
    operation = await stack.create()

    async def recorded() -> bool:
        return (await stack.fleet.operation(operation.id)).step("start").upid is not None

    await until(recorded)
    await stack.fleet.teardown(5000)
    before = len(await mutations(stack, 5000))
    await trio.sleep(2.0)
    assert (await mutations(stack, 5000))[before:] == []
    await stack.cluster.calm()
    await stack.compensated(operation)
    await stack.gone(5000)


async def test_what_was_deleted_by_hand_can_be_deleted(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.cluster.delete(vmid)
    await stack.status(vmid, "error")
    assert "does not exist in Proxmox" in stack.fleet.server(vmid).reason
    assert [(one["vmid"], one["where"]) for one in await stack.fleet.orphans()] == [(vmid, "database")]
    await stack.succeeds(await stack.fleet.teardown(vmid))
    await stack.gone(vmid)
    assert await stack.fleet.orphans() == []


async def test_what_proxmox_only_does_not_list_is_not_swept(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.cluster.cause("hidden", vmid=vmid)
    await stack.status(vmid, "error")
    swept = await stack.fleet.sweep(dry_run=False)
    assert [(one["vmid"], one["where"], one["outcome"][:9]) for one in swept] == [(vmid, "database", "not swept")]
    await stack.cluster.calm()
    await stack.status(vmid, "running")


async def test_orphans_with_our_tag_are_swept_and_others_are_not(stack: Stack) -> None:
    await stack.cluster.create([FOREIGN, {**FOREIGN, "vmid": 5001, "hostname": "ours", "tags": "zlh;game"}])
    swept = await stack.fleet.sweep(dry_run=True)
    assert [(one["vmid"], one["outcome"]) for one in swept] == [(5000, "left to a person"), (5001, "would be swept")]
    assert len(await stack.cluster.containers()) == 2

    async def only_theirs() -> bool:
        await stack.fleet.sweep(dry_run=False)
        return list(await stack.cluster.containers()) == [5000]

    await until(only_theirs)
    assert (await stack.cluster.containers())[5000]["running"]


async def test_a_node_that_is_away_makes_power_unknown_and_nothing_else(stack: Stack) -> None:
    row = await stack.provision()
    await stack.status(row.vmid, "running")
    await stack.cluster.cause("node-offline", node=row.node)

    async def unknown() -> bool:
        return stack.fleet.server(row.vmid).host_status == "unknown"

    await until(unknown)
    # The agent still answers, so the game is not called anything but running.
    assert stack.fleet.server(row.vmid).status == "running"
    stopping = await stack.fleet.stop_host(row.vmid)
    await trio.sleep(1.0)
    assert not (await stack.fleet.operation(stopping.id)).state.final
    assert json.loads(stack.fleet.servers_json(Sight(stack.account.id)))["servers"][0]["hostStatus"] == "unknown"
    await stack.cluster.calm()
    await stack.succeeds(stopping)
    await stack.status(row.vmid, "host offline")


@pytest.mark.parametrize("how", ["refuse", "503", "596"])
async def test_proxmox_away_in_the_middle(stack: Stack, how: str) -> None:
    operation = await stack.create()
    await stack.step(operation, "clone")
    await stack.cluster.cause("down", how=how)

    async def noticed() -> bool:
        return stack.fleet.watcher.error is not None

    await until(noticed)
    assert json.loads(stack.fleet.servers_json(Sight(None)))["servers"][0]["status"] == "provisioning"
    await trio.sleep(1.0)
    await stack.cluster.calm()
    await stack.succeeds(operation)
    assert list(await stack.cluster.containers()) == [operation.vmid]


async def test_power_that_was_changed_by_hand_is_put_right(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "CONFIRM_SECONDS", 1.5)
    vmid = (await stack.provision()).vmid
    await stack.status(vmid, "running")
    await stack.cluster.set_power(vmid, running=False)
    await stack.status(vmid, "host offline")
    await stack.status(vmid, "running")
    repair = (await stack.fleet.operations(Sight(None), vmid=vmid))[0]
    assert repair.kind == "start_host"
    assert "wanted on" in repair.arguments["reason"]

    # An account that is suspended: its containers are stopped, and stay so.
    await stack.db.run(containers.set_desired, vmid, Desired(suspended=True))
    stack.fleet.projection.cell(vmid).unsure = True
    stack.fleet._crew.nudge(vmid)
    await stack.status(vmid, "host offline")
    assert stack.fleet.container(vmid).desired.power is Power.ON
    await trio.sleep(2.0)
    assert stack.fleet.server(vmid).status == "host offline"


async def test_a_reboot_from_inside_is_not_repaired(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "CONFIRM_SECONDS", 3.0)
    vmid = (await stack.provision()).vmid
    await stack.cluster.set_power(vmid, running=False)
    await stack.status(vmid, "host offline")
    await stack.cluster.set_power(vmid, running=True)
    await stack.status(vmid, "running")
    await trio.sleep(3.5)
    assert [one.kind for one in await stack.fleet.operations(Sight(None), vmid=vmid)] == ["provision"]


async def test_a_container_that_was_migrated_by_hand_is_followed(stack: Stack) -> None:
    row = await stack.provision()
    away = "pve2" if row.node == "pve1" else "pve1"
    await stack.cluster.delete(row.vmid)
    description = "Managed by ZLH: test"
    await stack.cluster.create(
        [
            {"vmid": row.vmid, "hostname": row.hostname, "address": row.address, "node": away, "tags": "zlh;game"}
            | {"description": description}
        ]
    )

    async def followed() -> bool:
        return stack.fleet.container(row.vmid).node == away

    await until(followed)
    operation = await stack.succeeds(await stack.fleet.teardown(row.vmid, force=True))
    assert operation.step("destroy").state is StepState.DONE
    await stack.gone(row.vmid)
