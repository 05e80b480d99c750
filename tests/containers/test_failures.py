"""A step that fails for good: what was made is taken back, until nothing is left anywhere."""

from __future__ import annotations

from typing import Any

from tests.stack import Agents, Stack, open_stack
from zlh.model.access import Sight
from zlh.model.operations import OperationState, StepState
from zlh.simulators.proxmox.client import Cluster

PROXMOX: list[tuple[str, str, dict[str, Any]]] = [
    ("clone", "no space left", {"name": "task-fails", "type": "vzclone", "exit_status": "no space left on device"}),
    (
        "clone",
        "lvcreate failed",
        {"name": "task-fails", "type": "vzclone", "exit_status": "lvcreate failed", "after": True},
    ),
    (
        "configure",
        "permission check failed",
        {"name": "fail-before", "path": "/lxc/{vmid}/config$", "method": "PUT", "status": 403},
    ),
    ("resize", "disk is full", {"name": "task-fails", "type": "resize", "exit_status": "the disk is full"}),
    ("start", "startup failed", {"name": "task-fails", "type": "vzstart", "exit_status": "startup failed"}),
]
AGENT = [
    ("agent", "longer than 4 s", "hung"),
    ("running", "installer exited", "install_fails"),
    ("running", "longer than 5 s", "install_hangs"),
]


async def test_every_failure_leaves_nothing(postgres_url: str, proxmox: Cluster, agents: Agents) -> None:
    """One container for each way to fail, all of them at once, and one beside them that is not disturbed."""
    async with open_stack(postgres_url, proxmox, agents, agent_seconds=4.0, install_seconds=5.0) as stack:
        vmid = 5000
        expected = {}
        for step, error, fault in PROXMOX:
            if fault["name"] == "task-fails":
                await proxmox.cause(**fault, vmid=vmid)
            else:
                await proxmox.cause(**fault | {"path": fault["path"].format(vmid=vmid), "message": error})
            expected[vmid] = (step, error)
            vmid += 1
        for step, error, name in AGENT:
            await agents.cause(name, vmid=vmid)
            expected[vmid] = (step, error)
            vmid += 1
        begun = [await stack.create(f"Doomed {number}") for number in range(len(expected))]
        assert [operation.vmid for operation in begun] == list(expected)
        unknown = await stack.create("Unknown", variant="forge")
        well = await stack.create("Well")
        for operation in begun:
            ended = await stack.compensated(operation, within=90)
            step, error = expected[operation.vmid]
            assert ended.error is not None
            assert ended.error.startswith(f"{step}: "), ended.error
            assert error in ended.error
            assert {one.state for one in ended.steps} <= {StepState.PENDING, StepState.UNDONE}
        ended = await stack.compensated(unknown)
        assert "forge" in (ended.error or "")
        await stack.succeeds(well)
        for operation in [*begun, unknown]:
            await stack.gone(operation.vmid)
        assert list(await proxmox.containers()) == [well.vmid]
        await stack.status(well.vmid, "running")


async def test_what_failed_may_be_tried_again(stack: Stack) -> None:
    await stack.cluster.cause("task-fails", type="vzclone", exit_status="no space left on device", times=1)
    await stack.compensated(await stack.create())
    row = await stack.provision()
    assert (await stack.fleet.operations(Sight(stack.account.id)))[1].state is OperationState.COMPENSATED
    assert row.vmid != 5000, "a vmid that was just given back rests for a round"
