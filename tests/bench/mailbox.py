"""The actor runtime alone, in a process of its own: asks through a mailbox, and what idle actors weigh."""

from __future__ import annotations

import json
import sys
from typing import Any

import trio

from actors.bench import asks_per_second, memory_per_container
from tests.bench.figures import Figure, at_most
from tests.bench.processes import result_of
from tests.bench.scale import Scale


async def mailboxes(scale: Scale) -> list[Figure]:
    order = {"askers": scale.askers, "seconds": scale.ask_seconds, "idle": scale.idle_actors}
    found = await result_of("tests.bench.mailbox", order)
    idle = found["memory"]
    return [
        Figure("asks of one task after another", found["alone"], "1/s", note="per second of processor time"),
        Figure(f"asks of {scale.askers} tasks at once", found["crowd"], "1/s", note="per second of processor time"),
        Figure(
            f"memory of {scale.idle_actors:,} idle containers",
            idle["megabytes"],
            "MB",
            at_most(500),
            "each a supervisor with an actor and a sleeping task",
        ),
        Figure("memory of one of them", idle["bytesEach"] / 1000, "kB"),
        Figure("time to start them all", idle["startSeconds"], "s"),
    ]


async def measure(order: dict[str, Any]) -> dict[str, Any]:
    return {
        "alone": await asks_per_second(1, order["seconds"]),
        "crowd": await asks_per_second(order["askers"], order["seconds"]),
        "memory": await memory_per_container(order["idle"]),
    }


if __name__ == "__main__":
    print(json.dumps(trio.run(measure, json.loads(sys.stdin.read()))))
