"""What the runtime costs: `python -m actors.bench` prints one JSON object. Nothing here asserts anything."""

from __future__ import annotations

import gc
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import trio

from actors import Actor, Context, Ref, Strategy, actor, dynamic, open_system, supervisor, task


class Echo(Actor):
    """Answers with what it was asked."""

    async def handle(self, message: Any) -> Any:
        return message


async def idle(ctx: Context) -> None:
    """A loop that is up and does nothing."""
    ctx.started()
    await trio.sleep_forever()


def resident_bytes() -> int:
    """This process's resident memory, on Linux."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


async def memory_per_container(count: int = 10_000) -> dict[str, float]:
    """Bytes for each idle rest_for_one supervisor with one actor and one sleeping task, and seconds to start them."""
    async with open_system(supervisor("root", [dynamic("fleet")])) as system:
        fleet = system.dynamic("fleet")
        gc.collect()
        before, began = resident_bytes(), time.perf_counter()
        for number in range(count):
            children = [actor("mailbox", Echo), task("poller", idle)]
            fleet.start_child(supervisor(str(number), children, strategy=Strategy.REST_FOR_ONE))
        # The children of one dynamic supervisor start first come, first served.
        await system.ref(f"fleet/{count - 1}/mailbox").ask("up", within=math.inf)
        seconds = time.perf_counter() - began
        gc.collect()
        each = (resident_bytes() - before) / count
    return {
        "count": count,
        "bytesEach": round(each),
        "megabytes": round(each * count / 1e6, 1),
        "startSeconds": seconds,
    }


async def asks_per_second(askers: int, seconds: float = 2.0) -> float:
    """Asks a second of processor time through one actor's mailbox, from so many tasks, each with a deadline."""
    answered = 0

    async def ask_on(ref: Ref) -> None:
        nonlocal answered
        while True:
            await ref.ask(answered, within=10, lane="shared")
            answered += 1

    async with open_system(supervisor("root", [actor("echo", Echo)])) as system:
        began = time.process_time()
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for _ in range(askers):
                    nursery.start_soon(ask_on, system.ref("echo"))
        return answered / (time.process_time() - began)


async def measure() -> dict[str, Any]:
    """All of it, ready for JSON."""
    asks = {str(askers): round(await asks_per_second(askers)) for askers in (1, 10, 50)}
    return {"asksPerSecond": asks, "idle": await memory_per_container()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(trio.run(measure)) + "\n")
