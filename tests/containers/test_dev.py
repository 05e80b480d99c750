"""A dev container over the real path: its console, and its IDE that is stopped when nobody uses it."""

from __future__ import annotations

import orjson

from tests.agents import until
from tests.containers.test_console import Watcher
from tests.stack import Stack
from zlh.containers.idle import LOOK, WARNING_SECONDS, IdleWatch
from zlh.model.audit import Act, Ending, Outcome
from zlh.model.containers import ContainerType
from zlh.store import idle_stops


async def ide_state(stack: Stack, vmid: int) -> str:
    answer = await stack.fleet.call(vmid, LOOK, use=False)
    state: str = orjson.loads(answer.body)["state"]
    return state


async def test_a_dev_container_has_a_console_and_an_ide_that_stops_when_idle(stack: Stack) -> None:
    row = await stack.provision("workshop", ctype=ContainerType.DEV)
    viewer = Watcher()
    place = stack.fleet.attach(row.vmid, viewer)
    await place.send_line("say hello")
    await until(lambda: any("hello" in line for line in viewer.lines))
    assert viewer.seqs == list(range(viewer.seqs[0], viewer.seqs[0] + len(viewer.seqs)))
    assert "gap" not in viewer.told

    # The hours pass on this watch's clock alone.
    notes: list[tuple[Act, Ending]] = []
    ahead = 0.0
    watch = IdleWatch(
        stack.db, stack.fleet, lambda act, ending: notes.append((act, ending)), lambda: stack.fleet._now() + ahead
    )
    await stack.db.run(idle_stops.put, row.vmid, 10)
    await until(lambda: stack.fleet.server(row.vmid).as_dict()["ready"])
    assert stack.fleet.whereabouts(row.vmid).met

    async def running() -> bool:
        return await ide_state(stack, row.vmid) == "running"

    await until(running)
    await watch.look()
    ahead = 3600.0
    await watch.look()
    assert stack.fleet.server(row.vmid).idle is None, "somebody watches the console"
    place.detach()
    await watch.look()
    assert stack.fleet.server(row.vmid).idle is not None
    ahead += WARNING_SECONDS + 1
    await watch.look()
    assert await ide_state(stack, row.vmid) == "stopped"
    ((act, ending),) = notes
    assert (act.vmid, act.subject_id, ending.outcome) == (row.vmid, row.owner_id, Outcome.DONE)
    await until(lambda: not stack.fleet.server(row.vmid).as_dict()["ready"])
    assert "the IDE does not run" in stack.fleet.server(row.vmid).as_dict()["reason"]
    await watch.look()
    assert len(notes) == 1
