"""One agent whose console says when each of its lines was written.

    python -m tests.bench.talker

reads one JSON object {"address", "port", "directory", "payload" (of POST /config)} from standard input and says that
it is ready; then every line of input is the number of console lines a second from now on. Ends with its input.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import trio

from zlh.simulators.agent.agent import SimulatedAgent

BEAT_SECONDS = 0.02
MARK = "@"
STAMP_DIGITS = 20
LINE = MARK + "{:0" + str(STAMP_DIGITS) + "d} [12:00:00] [Server thread/INFO]: somebody walked a few steps, and on"


class Talker:
    """`rate` in lines a second."""

    def __init__(self, agent: SimulatedAgent) -> None:
        self._agent = agent
        self.rate = 0

    async def talk(self) -> None:
        """Writes a beat's lines at once, as a busy game does; their stamps (monotonic nanoseconds) are those of the
        moment."""
        due = trio.current_time()
        while True:
            stamped = LINE.format(time.monotonic_ns())
            for _ in range(int(self.rate * BEAT_SECONDS)):
                self._agent.console.publish(stamped)
            due = max(due + BEAT_SECONDS, trio.current_time())
            await trio.sleep_until(due)

    async def obey(self, lines: trio.lowlevel.FdStream) -> None:
        async for data in lines:
            self.rate = int(data.split()[-1])


async def main() -> None:
    order = json.loads(sys.stdin.buffer.raw.readline())  # type: ignore[attr-defined]
    directory = Path(order["directory"])
    agent = SimulatedAgent(
        order["address"], directory, order["payload"]["agent_token"], port=order["port"], light=True
    )
    talker = Talker(agent)
    async with trio.open_nursery() as nursery:
        await nursery.start(agent.run)
        agent.seed(order["payload"])
        nursery.start_soon(talker.talk)
        print("{}", flush=True)
        await talker.obey(trio.lowlevel.FdStream(sys.stdin.fileno()))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
