"""From a request to nothing left, with the real driver, database and agents."""

from __future__ import annotations

from tests.stack import Stack


async def test_provision_to_running_and_teardown_to_nothing(stack: Stack) -> None:
    row = await stack.provision("My Server")
    assert row.provisioned
    await stack.status(row.vmid, "running")
    operation = await stack.succeeds(await stack.fleet.teardown(row.vmid, force=True))
    assert [step.name for step in operation.steps] == ["shutdown", "destroy"]
    await stack.gone(row.vmid)
