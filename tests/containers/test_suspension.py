"""Containers follow their owner: off while the account is suspended, as before once it is not."""

from __future__ import annotations

import itertools
import random
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import trio

from tests.containers.test_backups import folders, make_folder
from tests.stack import SMALL, Agents, Stack, customer, open_stack, until
from zlh.containers import reconcile
from zlh.containers import retrieval as rules
from zlh.model.access import Sight
from zlh.model.agent_calls import AgentCall, Feature
from zlh.model.containers import ContainerType, Power
from zlh.model.edge import Stage
from zlh.model.errors import ConflictError, ForbiddenError
from zlh.model.operations import OperationKind, OperationState
from zlh.simulators.proxmox.client import Cluster

HISTORY = AgentCall(Feature.HISTORY, "GET", "/console/history", changes=False)


@pytest.fixture(autouse=True)
def soon_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "CONFIRM_SECONDS", 0.5)


async def runs(stack: Stack, **wishes: Any) -> int:
    vmid = (await stack.provision(**wishes)).vmid
    await stack.status(vmid, "running")
    return vmid


async def is_off(stack: Stack, vmid: int) -> None:
    """Off, and nothing is about to happen to it."""
    await stack.status(vmid, "host offline")

    async def quiet() -> bool:
        return stack.fleet.projection.cell(vmid).operation is None

    await until(quiet)


async def state_of(stack: Stack, vmid: int) -> str:
    agent = (await stack.agents.list()).get(vmid)
    return "none" if agent is None else agent["state"]


async def kinds(stack: Stack, vmid: int) -> list[OperationKind]:
    """The newest last."""
    return [one.kind for one in await stack.fleet.operations(Sight(None), vmid=vmid)][::-1]


async def test_off_with_the_suspension_and_on_after_it(stack: Stack) -> None:
    vmid = await runs(stack)
    assert stack.fleet.publication(vmid).stage is Stage.PUBLISHED  # type: ignore[union-attr] # it is there
    stack.suspend()
    await is_off(stack, vmid)
    server = stack.fleet.server(vmid).as_dict()
    assert (server["suspended"], server["retrievalUntil"]) == (True, None)
    assert "suspended" in server["reason"]
    assert stack.fleet.publication(vmid).stage is Stage.SUSPENDED  # type: ignore[union-attr] # it is there
    assert stack.fleet.container(vmid).desired.power is Power.ON
    for refused in (stack.fleet.start_host(vmid), stack.fleet.restart_host(vmid), stack.fleet.start_game(vmid)):
        with pytest.raises(ForbiddenError) as caught:
            await refused
        assert caught.value.code == "suspended"
    stack.suspend(False)
    await stack.status(vmid, "running")
    assert stack.fleet.publication(vmid).stage is Stage.PUBLISHED  # type: ignore[union-attr] # it is there


async def test_what_was_off_before_stays_off(stack: Stack) -> None:
    vmid = await runs(stack)
    await stack.succeeds(await stack.fleet.stop_host(vmid))
    stack.suspend()
    await suspended(stack, vmid)
    stack.suspend(False)
    await suspended(stack, vmid, False)
    await trio.sleep(1.5)
    await is_off(stack, vmid)
    assert await kinds(stack, vmid) == ["provision", "stop_host"]


async def suspended(stack: Stack, vmid: int, wanted: bool = True) -> None:
    async def there() -> bool:
        return stack.fleet.container(vmid).desired.suspended is wanted

    await until(there)


async def test_the_containers_of_others_run_on(stack: Stack) -> None:
    other = await customer(stack.db, "bob")
    mine, theirs = await runs(stack), await runs(stack, account=other)
    stack.suspend()
    await is_off(stack, mine)
    await stack.status(theirs, "running")
    assert not stack.fleet.container(theirs).desired.suspended


@pytest.mark.parametrize("kind", ["provision", "restart_host", "upgrade", "start_host"])
async def test_what_is_under_way_comes_to_its_end_first(stack: Stack, kind: str) -> None:
    operation = await stack.create()
    vmid = operation.vmid
    if kind != "provision":
        await stack.succeeds(operation)
        await stack.status(vmid, "running")
    match kind:
        case "restart_host":
            operation = await stack.fleet.restart_host(vmid)
        case "upgrade":
            larger = replace(SMALL, memory_mib=2048)
            operation = await stack.fleet.upgrade(stack.account, vmid, larger)
        case "start_host":
            await stack.succeeds(await stack.fleet.stop_host(vmid))
            operation = await stack.fleet.start_host(vmid)
    stack.suspend()
    await stack.succeeds(operation)
    await begun(stack, vmid, OperationKind.STOP_HOST)
    await is_off(stack, vmid)


async def test_a_suspended_container_can_be_torn_down(stack: Stack) -> None:
    vmid = await runs(stack)
    stack.suspend()
    await is_off(stack, vmid)
    await stack.succeeds(await stack.fleet.teardown(vmid))
    await stack.gone(vmid)


async def test_whatever_happened_while_nobody_was_there(postgres_url: str, proxmox: Cluster, agents: Agents) -> None:
    """Nothing hangs on having heard of it: every start looks at the standing as it is."""
    async with open_stack(postgres_url, proxmox, agents) as stack:
        vmid = await runs(stack)
        account = stack.account.id
    async with open_stack(postgres_url, proxmox, agents, suspended={account: True}) as stack:
        await is_off(stack, vmid)
    # Of whom nothing is known, nothing is concluded.
    async with open_stack(postgres_url, proxmox, agents) as stack:
        await is_off(stack, vmid)
        await trio.sleep(1.0)
        assert stack.fleet.container(vmid).desired.suspended
    async with open_stack(postgres_url, proxmox, agents, suspended={account: False}) as stack:
        await stack.status(vmid, "running")


async def test_a_stop_that_a_restart_of_ours_interrupts(postgres_url: str, proxmox: Cluster, agents: Agents) -> None:
    async with open_stack(postgres_url, proxmox, agents) as stack:
        vmid = await runs(stack)
        stack.suspend()
        await suspended(stack, vmid)
        account = stack.account.id
    async with open_stack(postgres_url, proxmox, agents, suspended={account: True}) as stack:
        await is_off(stack, vmid)
        assert (await kinds(stack, vmid)).count(OperationKind.STOP_HOST) == 1
        stack.suspend(False)
        await stack.step((await begun(stack, vmid, OperationKind.START_HOST)), "start")
    async with open_stack(postgres_url, proxmox, agents, suspended={account: False}) as stack:
        await stack.status(vmid, "running")


async def begun(stack: Stack, vmid: int, kind: OperationKind) -> Any:
    async def there() -> bool:
        operation = stack.fleet.projection.cell(vmid).operation
        return operation is not None and operation.kind is kind

    await until(there)
    return stack.fleet.projection.cell(vmid).operation


@pytest.mark.parametrize("last", [True, False])
async def test_the_last_word_counts_however_many_there_were(stack: Stack, last: bool) -> None:
    vmid = await runs(stack)
    chance = random.Random(last)
    for word in itertools.islice(itertools.cycle([True, False]), 11 if last else 12):
        stack.suspend(word)
        await trio.sleep(chance.random() * 0.4)
    assert stack.suspended[stack.account.id] is last
    if last:
        await is_off(stack, vmid)
    else:
        await stack.status(vmid, "running")


async def test_what_proxmox_does_not_say_is_not_called_stopped(stack: Stack) -> None:
    vmid = await runs(stack)
    await stack.cluster.cause("down")
    stack.suspend()
    await suspended(stack, vmid)
    await trio.sleep(1.0)
    assert stack.fleet.server(vmid).host_status != "offline"
    await stack.cluster.calm()
    await is_off(stack, vmid)


async def retrieved(stack: Stack, vmid: int, seconds: float = 600) -> None:
    operation = await stack.fleet.retrieve(vmid, seconds=seconds)
    assert operation is not None
    await stack.succeeds(operation)
    await stack.status(vmid, "stopped")


async def test_data_can_be_fetched_and_nothing_else_be_done(stack: Stack) -> None:
    vmid = await runs(stack)
    await make_folder(stack, vmid, "folder")
    with pytest.raises(ConflictError) as early:
        await stack.fleet.retrieve(vmid, seconds=600)
    assert early.value.code == "not_suspended"
    stack.suspend()
    await is_off(stack, vmid)
    with pytest.raises(ConflictError, match="open a retrieval first") as off:
        await folders(stack, vmid)
    assert off.value.code == "host_offline"
    await retrieved(stack, vmid)
    assert await state_of(stack, vmid) == "idle"
    assert await folders(stack, vmid) == {"folder"}
    assert (await stack.fleet.backups.all(vmid)).backups == ()
    assert (await stack.fleet.call(vmid, HISTORY)).status == 200
    assert stack.fleet.reach(vmid, Feature.FILES, changes=False).address == stack.fleet.container(vmid).address
    assert stack.fleet.publication(vmid).stage is Stage.SUSPENDED  # type: ignore[union-attr] # it is there
    for refused in (make_folder(stack, vmid, "another"), stack.fleet.start_game(vmid), stack.fleet.start_host(vmid)):
        with pytest.raises(ForbiddenError):
            await refused
    until_then = stack.fleet.server(vmid).as_dict()["retrievalUntil"]
    assert await stack.fleet.retrieve(vmid, seconds=1200) is None
    assert stack.fleet.server(vmid).as_dict()["retrievalUntil"] > until_then


async def test_a_retrieval_ends_by_itself_and_the_game_runs_once_it_is_paid(stack: Stack) -> None:
    vmid = await runs(stack)
    stack.suspend()
    await is_off(stack, vmid)
    await retrieved(stack, vmid, seconds=4)
    await is_off(stack, vmid)
    assert stack.fleet.server(vmid).as_dict()["retrievalUntil"] is None
    # Once it is paid the container is as it was before the suspension.
    stack.suspend(False)
    await stack.status(vmid, "running")
    stack.suspend(False)
    await stack.status(vmid, "running")
    assert await state_of(stack, vmid) == "running"
    assert not stack.fleet.container(vmid).desired.game_held


async def test_paid_while_data_is_fetched(stack: Stack) -> None:
    """The container stays on, and its game is started again."""
    vmid = await runs(stack)
    stack.suspend()
    await is_off(stack, vmid)
    await retrieved(stack, vmid)
    stack.suspend(False)
    await stack.status(vmid, "running")
    assert await kinds(stack, vmid) == ["provision", "stop_host", "start_host"]
    assert stack.fleet.container(vmid).desired.retrieval_until is None
    # From now on it is as its owner says.
    await stack.fleet.stop_game(vmid)
    await stack.status(vmid, "stopped")
    await trio.sleep(1.0)
    assert await state_of(stack, vmid) == "idle"


async def test_a_game_that_was_stopped_before_stays_so(stack: Stack) -> None:
    vmid = await runs(stack)
    await stack.fleet.stop_game(vmid)
    await stack.status(vmid, "stopped")
    stack.suspend()
    await is_off(stack, vmid)
    await retrieved(stack, vmid)
    stack.suspend(False)
    await suspended(stack, vmid, False)
    await trio.sleep(1.5)
    assert await state_of(stack, vmid) == "idle"


async def started(stack: Stack, vmid: int) -> None:
    """From inside of the container, whatever we say."""
    row = stack.fleet.container(vmid)
    with closing(stack.fleet._crew.site.agent(row, row.agent_token)) as client:
        await client.start()


async def test_a_game_that_somebody_starts_all_the_same_is_stopped_again(stack: Stack) -> None:
    vmid = await runs(stack)
    stack.suspend()
    await is_off(stack, vmid)
    await retrieved(stack, vmid)
    for _ in range(2):
        await started(stack, vmid)

        async def stopped() -> bool:
            return await state_of(stack, vmid) == "idle"

        await until(stopped)


async def test_an_agent_that_hangs_holds_nobody_up(stack: Stack) -> None:
    vmid = await runs(stack)
    stack.suspend()
    await is_off(stack, vmid)
    await retrieved(stack, vmid)
    await stack.agents.cause("hung", vmid=vmid, path="/stop")
    await started(stack, vmid)
    await stack.status(vmid, "running")
    for _ in range(3):
        assert await folders(stack, vmid) == set()
        with trio.fail_after(10):
            assert await stack.fleet.retrieve(vmid, seconds=600) is None
    assert await state_of(stack, vmid) == "running"
    await stack.agents.calm()
    await stack.status(vmid, "stopped")


async def test_a_retrieval_goes_on_in_the_next_process(postgres_url: str, proxmox: Cluster, agents: Agents) -> None:
    async with open_stack(postgres_url, proxmox, agents) as stack:
        vmid = await runs(stack)
        account = stack.account.id
        stack.suspend()
        await is_off(stack, vmid)
        operation = await stack.fleet.retrieve(vmid, seconds=600)
        assert operation is not None
    async with open_stack(postgres_url, proxmox, agents, suspended={account: True}) as stack:
        await stack.succeeds(operation)
        await stack.status(vmid, "stopped")
    async with open_stack(postgres_url, proxmox, agents, suspended={account: False}) as stack:
        await stack.status(vmid, "running")
        assert await state_of(stack, vmid) == "running"


async def test_an_operator_ends_a_retrieval_and_nothing_else(stack: Stack) -> None:
    vmid = await runs(stack)
    stack.suspend()
    await is_off(stack, vmid)
    await retrieved(stack, vmid)
    await stack.succeeds(await stack.fleet.stop_host(vmid))
    await trio.sleep(1.5)
    await is_off(stack, vmid)
    assert stack.fleet.server(vmid).as_dict()["retrievalUntil"] is None


async def test_a_day_has_an_end(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    vmid = await runs(stack, ctype=ContainerType.DEV)
    stack.suspend()
    await is_off(stack, vmid)
    monkeypatch.setattr(rules, "MOST", rules.LEAST + rules.timedelta(seconds=2))
    await retrieved(stack, vmid)
    await trio.sleep(2.0)
    with pytest.raises(ConflictError) as spent:
        await stack.fleet.retrieve(vmid, seconds=600)
    assert spent.value.code == "retrieval_spent"
    ended = (await stack.fleet.operations(Sight(None), vmid=vmid))[0]
    assert ended.state is OperationState.SUCCEEDED
