"""How long an operation keeps its place."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.containers.samples import a_row, an_operation
from tests.containers.scripted import virtual_now
from zlh.containers.cell import Cell
from zlh.containers.runner import PATIENCE_SECONDS, Runner
from zlh.containers.steps import STEPS, TRIED, Again, Done, Outcome
from zlh.model.errors import ConflictError
from zlh.model.operations import OperationKind, OperationState, Step, StepState


class Journal:
    """Takes what it is told, and says nothing."""

    def __getattr__(self, name: str) -> Any:
        async def written(*_what: object, **_more: object) -> None:
            await trio.lowlevel.checkpoint()

        return written


class Places:
    def leave(self, vmid: int) -> None:
        pass


class Site:
    options: Any = None
    clones = mutations = None


def _unseen(_running: bool) -> None:
    pass


@pytest.mark.parametrize("kind", [OperationKind.TEARDOWN, OperationKind.PROVISION])
async def test_what_waits_for_ever_lets_others_go_first(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, kind: OperationKind
) -> None:
    """A teardown before a lock that nobody lifts, and the undo of a clone whose task never ends."""
    step = STEPS[kind][0]
    undoing = kind is OperationKind.PROVISION
    answer = Again(1.0, "Proxmox holds it: backup")

    async def held(_job: object) -> Outcome:
        return answer

    monkeypatch.setattr(step, "undo" if undoing else "do", held)
    operation = an_operation(
        kind,
        state=OperationState.COMPENSATING if undoing else OperationState.RUNNING,
        steps=(Step(step.name, StepState.UNDOING if undoing else StepState.STARTED),),
    )
    site: Any = Site()
    journal: Any = Journal()
    runner = Runner(Cell(a_row(), lambda _cell: None, operation=operation), site, journal, virtual_now(), _unseen)
    attempt = runner.undo if undoing else runner.do
    while trio.current_time() < PATIENCE_SECONDS - 2.0:
        again = await attempt(step.name)
        assert again == answer
        await trio.sleep(again.seconds)
    await trio.sleep(3.0)
    again = await attempt(step.name)
    assert again.idle
    assert again.seconds > 10.0
    answer = Again(1.0, "Proxmox holds it: destroyed")
    assert await attempt(step.name) == answer, "something else happens now"


async def test_an_address_that_another_has_is_put_aside(autojump_clock: MockClock) -> None:
    told: list[tuple[object, ...]] = []

    class Busy(Journal):
        async def done(self, *_what: object) -> None:
            raise ConflictError("container 5002 has the address 10.0.0.5", code="address_taken")

        async def remember(self, *what: object) -> None:
            told.append(what)

    async def found(_job: object) -> Outcome:
        return Done("10.0.0.5", row={"address": "10.0.0.5"})

    address = next(step for step in STEPS[OperationKind.START_HOST] if step.name == "address")
    begun = Step("address", StepState.STARTED, data={TRIED: ["10.0.0.4"]})
    operation = an_operation(OperationKind.START_HOST, steps=(begun,))
    site: Any = Site()
    site.clones = site.mutations = Places()
    busy: Any = Busy()
    runner = Runner(Cell(a_row(), lambda _cell: None, operation=operation), site, busy, virtual_now(), _unseen)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(address, "do", found)
        assert await runner.do("address") == Again(0.0, "")
    assert told == [("address", {TRIED: ["10.0.0.4", "10.0.0.5"]})]
