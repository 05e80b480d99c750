"""A write was committed, and its answer got lost: the store is read again, and nothing and nobody is left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.stack import Stack, until
from zlh.model.operations import Operation
from zlh.store import StoreUnavailable


def lose_the_answer(stack: Stack, monkeypatch: pytest.MonkeyPatch, which: Callable[[Operation], bool]) -> list[str]:
    """The first committed journal write of an operation that is such; returns what was lost."""
    right = stack.db.run
    lost: list[str] = []

    async def run(fn: Any, *arguments: Any, **named: Any) -> Any:
        answer = await right(fn, *arguments, **named)
        operation = answer[0] if isinstance(answer, tuple) else None
        if not lost and isinstance(operation, Operation) and which(operation):
            lost.append(operation.id)
            raise StoreUnavailable("the connection broke", may_have_committed=True)
        return answer

    monkeypatch.setattr(stack.db, "run", run)
    return lost


async def nothing_runs(stack: Stack) -> None:
    async def idle() -> bool:
        return stack.fleet.statistics()["operations_running"] == 0

    await until(idle, within=10.0, lacking=stack.fleet.statistics)


async def test_the_end_of_an_operation(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = lose_the_answer(stack, monkeypatch, lambda operation: operation.state.final)
    operation = await stack.create()
    with trio.fail_after(30):
        async with stack.fleet.follow(operation.id) as states:
            seen = [state.state async for state in states]
    assert seen[-1].final, "who follows is told the end"
    assert lost == [operation.id]
    await nothing_runs(stack)
    tearing = await stack.fleet.teardown(operation.vmid, force=True)
    lost = lose_the_answer(stack, monkeypatch, lambda operation: operation.state.final)
    await stack.succeeds(tearing)
    assert lost == [tearing.id]
    await nothing_runs(stack)
    await stack.gone(operation.vmid)


async def test_the_move_to_another_vmid(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    await stack.cluster.create(
        [{"vmid": 5000, "hostname": "somebody-elses", "address": "127.65.0.1", "node": "pve1"}]
    )
    await stack.cluster.cause("hidden", vmid=5000)
    lost = lose_the_answer(stack, monkeypatch, lambda operation: operation.vmid == 5001)
    operation = await stack.create()
    assert operation.vmid == 5000
    ended = await stack.succeeds(operation)
    assert (ended.vmid, lost) == (5001, [operation.id])
    await nothing_runs(stack)
