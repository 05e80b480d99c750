"""Backups of real (simulated) agents through the fleet: limits, locks, refusals, and a restore from end to end."""

from __future__ import annotations

import orjson
import pytest
import trio

from tests.stack import PLAN, Agents, Stack, open_stack, until
from zlh.model.agent_calls import AgentCall, Feature
from zlh.model.backups import Backup, BackupState
from zlh.model.containers import Desired
from zlh.model.errors import AbsentError, AgentUnsupportedError, ConflictError, PlanLimitError, ProblemError
from zlh.model.operations import OperationKind, StepState
from zlh.simulators.proxmox.client import Cluster
from zlh.store import containers


async def backups(stack: Stack, vmid: int) -> list[Backup]:
    return list((await stack.fleet.backups.all(vmid)).backups)


async def made(stack: Stack, vmid: int, name: str | None = None) -> str:
    """The id of a new backup that is ready."""
    answer = await stack.fleet.backups.create(vmid, stack.account, name)
    assert answer.status == 202

    async def ready() -> bool:
        return all(backup.state is BackupState.READY for backup in await backups(stack, vmid))

    await until(ready)
    backup_id: str = orjson.loads(answer.body)["id"]
    return backup_id


async def make_folder(stack: Stack, vmid: int, name: str) -> None:
    await stack.fleet.call(vmid, AgentCall(Feature.FILES, "POST", "/files/directory", body={"path": name}))


async def folders(stack: Stack, vmid: int) -> set[str]:
    call = AgentCall(Feature.FILES, "GET", "/files", query={"path": ""}, changes=False)
    entries = orjson.loads((await stack.fleet.call(vmid, call)).body)["entries"]
    return {entry["name"] for entry in entries if entry["name"].startswith("folder")}


async def refused(code: str, work: object, kind: type[ProblemError] = ConflictError) -> ProblemError:
    with pytest.raises(kind) as refusal:
        await work  # type: ignore[misc]
    assert refusal.value.code == code
    return refusal.value


async def test_backups_are_made_changed_and_removed(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.status(vmid, "running")
    commands = stack.fleet.backups
    one = await made(stack, vmid, "before the update")
    changed = await commands.change(vmid, one, {"name": "kept", "locked": True})
    assert (changed.status, orjson.loads(changed.body)["name"]) == (200, "kept")
    (kept,) = await backups(stack, vmid)
    assert (kept.name, kept.locked, kept.size_bytes > 0) == ("kept", True, True)
    await refused("locked", commands.delete(vmid, one))
    await commands.change(vmid, one, {"locked": False})
    assert (await commands.delete(vmid, one)).status == 204
    for work in (commands.delete(vmid, one), commands.change(vmid, one, {"locked": True})):
        await refused("not_found", work, AbsentError)
    await refused("not_found", commands.restore(vmid, one), AbsentError)


async def test_the_plans_limit_holds_for_many_at_once(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.status(vmid, "running")
    await made(stack, vmid)
    created: list[int] = []
    limits: list[PlanLimitError] = []

    async def create() -> None:
        try:
            created.append((await stack.fleet.backups.create(vmid, stack.account)).status)
        except PlanLimitError as error:
            limits.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(create)
    assert created == [202, 202]
    assert [error.details["plan"] for error in limits] == [PLAN.name] * 2
    (exceeded,) = limits[0].details["exceeded"]
    assert (exceeded["limit"], exceeded["allowed"], exceeded["used"]) == ("backups", 3, 3)
    assert len(await backups(stack, vmid)) == 3


async def test_a_failed_one_says_why_and_takes_no_room(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.status(vmid, "running")
    await stack.agents.cause("backup_fails", vmid=vmid)
    for _ in range(4):
        await stack.fleet.backups.create(vmid, stack.account)

    async def over() -> bool:
        return all(backup.state is BackupState.FAILED for backup in await backups(stack, vmid))

    await until(over)
    found = await backups(stack, vmid)
    assert {backup.error for backup in found} == {"no space left on device"}
    await refused("backup_failed", stack.fleet.backups.restore(vmid, found[0].id, stop=True))
    assert (await stack.fleet.backups.delete(vmid, found[0].id)).status == 204


async def test_an_old_agent_says_so_once(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.status(vmid, "running")
    await stack.agents.cause("old_version", vmid=vmid)
    for work in (stack.fleet.backups.all(vmid), stack.fleet.backups.create(vmid, stack.account)):
        await refused("agent_unsupported", work, AgentUnsupportedError)


async def test_a_restore_stops_the_game_and_starts_it_again(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.status(vmid, "running")
    fleet = stack.fleet
    await make_folder(stack, vmid, "folder of before")
    one = await made(stack, vmid)
    await make_folder(stack, vmid, "folder of after")
    problem = await refused("running", fleet.backups.restore(vmid, one))
    assert '{"stop": true}' in problem.message

    await stack.agents.cause("restore_hangs", vmid=vmid)
    operation = await fleet.backups.restore(vmid, one, stop=True)
    assert (operation.kind, operation.arguments["ran"]) == (OperationKind.RESTORE, True)
    await stack.step(operation, "restored")
    await stack.status(vmid, "stopped")
    assert "being restored" in fleet.server(vmid).reason
    for work in (
        fleet.start_game(vmid),
        fleet.stop_host(vmid),
        fleet.backups.restore(vmid, one),
        fleet.backups.create(vmid, stack.account),
        fleet.backups.delete(vmid, one),
        make_folder(stack, vmid, "folder of meanwhile"),
    ):
        await refused("operation_in_flight", work)
    assert one in {backup.id for backup in await backups(stack, vmid)}
    await stack.agents.calm()
    ended = await stack.succeeds(operation)
    assert {step.state for step in ended.steps} == {StepState.DONE}
    await stack.status(vmid, "running")
    assert await folders(stack, vmid) == {"folder of before"}

    # What is stopped stays so, and is started where that is asked for.
    await fleet.stop_game(vmid)
    await stack.status(vmid, "stopped")
    await stack.succeeds(await fleet.backups.restore(vmid, one))
    await stack.status(vmid, "stopped")
    await stack.succeeds(await fleet.backups.restore(vmid, one, start=True))
    await stack.status(vmid, "running")


async def test_a_restore_that_fails_leaves_files_and_game_as_they_were(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.status(vmid, "running")
    one = await made(stack, vmid)
    await make_folder(stack, vmid, "folder of after")
    await stack.agents.cause("restore_fails", vmid=vmid)
    ended = await stack.compensated(await stack.fleet.backups.restore(vmid, one, stop=True))
    assert ended.error == "restored: the archive is damaged"
    await stack.status(vmid, "running")
    assert await folders(stack, vmid) == {"folder of after"}
    await stack.succeeds(await stack.fleet.stop_host(vmid))
    await refused("host_offline", stack.fleet.backups.restore(vmid, one))


async def test_a_container_can_be_deleted_while_it_is_restored(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.status(vmid, "running")
    one = await made(stack, vmid)
    await stack.agents.cause("restore_hangs", vmid=vmid)
    operation = await stack.fleet.backups.restore(vmid, one, stop=True)
    await stack.step(operation, "restored")
    tearing = await stack.fleet.teardown(vmid, force=True)
    await stack.fails(operation)
    await stack.succeeds(tearing)
    await stack.gone(vmid)


async def test_a_suspended_owner_restores_nothing(stack: Stack) -> None:
    vmid = (await stack.provision()).vmid
    await stack.status(vmid, "running")
    one = await made(stack, vmid)
    await stack.db.run(containers.set_desired, vmid, Desired(suspended=True))
    stack.fleet.projection.cell(vmid).unsure = True
    for work in (
        lambda: stack.fleet.backups.restore(vmid, one, stop=True),
        lambda: stack.fleet.backups.create(vmid, stack.account),
    ):

        async def suspended(work: object = work) -> bool:
            try:
                await work()  # type: ignore[operator]
            except ProblemError as error:
                return error.code == "suspended"
            return False

        await until(suspended)


async def test_a_restore_goes_on_in_the_next_process(postgres_url: str, proxmox: Cluster, agents: Agents) -> None:
    async with open_stack(postgres_url, proxmox, agents) as stack:
        vmid = (await stack.provision()).vmid
        await stack.status(vmid, "running")
        await make_folder(stack, vmid, "folder of before")
        one = await made(stack, vmid)
        await make_folder(stack, vmid, "folder of after")
        await agents.cause("restore_hangs", vmid=vmid)
        operation = await stack.fleet.backups.restore(vmid, one, stop=True)
        await stack.step(operation, "restored")
    await agents.calm()
    async with open_stack(postgres_url, proxmox, agents) as stack:
        await stack.succeeds(operation)
        await stack.status(vmid, "running")
        assert await folders(stack, vmid) == {"folder of before"}
