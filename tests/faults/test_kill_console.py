"""`kill -9` of the API while somebody watches a busy console: who comes back sees every line, and none twice."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import orjson
import pytest
import trio
import trio_websocket

from tests.faults.scenes import running_fleet
from tests.faults.world import World, open_world

pytestmark = pytest.mark.faults

LINES_A_SECOND = 200
KILLS = 2


@dataclass
class Witness:
    """Somebody who watches one console, and resumes behind the last line that came."""

    world: World
    vmid: int
    lines: list[str] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    gaps: list[object] = field(default_factory=list)

    async def watch(self, until: int) -> None:
        """Until so many lines came in all, or the API is gone."""
        path = f"/api/servers/{self.vmid}/console/stream?format=json"
        if self.seqs:
            path += f"&after={self.seqs[-1]}"
        token = [(b"Authorization", f"Bearer {self.world.token}".encode())]
        address = self.world.api.replace("http", "ws")
        async with trio_websocket.open_websocket_url(address + path, extra_headers=token) as websocket:
            try:
                while len(self.lines) < until:
                    self._read(orjson.loads(await websocket.get_message()))
            except trio_websocket.ConnectionClosed:
                return

    def _read(self, frame: dict[str, object]) -> None:
        if "seq" in frame:
            self.seqs.append(int(str(frame["seq"])))
            self.lines.append(str(frame["line"]))
        elif frame["event"] == "gap":
            self.gaps.append(frame["dropped"])


async def test_a_viewer_resumes_over_the_death_of_the_api() -> None:
    async with open_world() as world:
        (vmid,), pid = await running_fleet(world, 1)
        witness = Witness(world, vmid)
        await world.agent_fault(fault="console_flood", vmids=[vmid], rate=LINES_A_SECOND)
        with trio.fail_after(120):
            for number in range(1, KILLS + 1):
                seen = len(witness.lines)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(witness.watch, 1_000_000)
                    while len(witness.lines) < seen + 300:  # noqa: ASYNC110 - the witness tells nobody
                        await trio.sleep(0.02)
                    await world.kill(pid)
                assert len(witness.lines) >= 300 * number
                pid = await world.start()
            await witness.watch(len(witness.lines) + 300)
        assert witness.gaps == []
        steps = {after - before for before, after in itertools.pairwise(witness.seqs)}
        assert steps == {1}
        flood = [int(line.removeprefix("flood line ")) for line in witness.lines if line.startswith("flood line ")]
        assert flood == list(range(flood[0], flood[0] + len(flood)))
        assert len(flood) > 300 * KILLS
        await world.kill(pid)
