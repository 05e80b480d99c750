"""How much is measured: the real size, and one that only shows that the benchmarks work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Counts and seconds. `rounds` is how often what is compared is measured in turn. `api_core` is the core that the
    API has for itself, None where there is only one."""

    fleet: int = 1000
    large_fleet: int = 3000
    own_servers: int = 50
    connections: int = 8
    paced_rate: int = 200
    load_seconds: float = 10.0
    poll_seconds: float = 30.0
    settle_seconds: float = 35.0
    askers: int = 50
    ask_seconds: float = 3.0
    idle_actors: int = 10_000
    operations: int = 50
    publishings: int = 20
    published: int = 5000
    published_at_once: int = 500
    renamed: int = 20
    viewers: int = 100
    console_rate: int = 1000
    console_seconds: float = 8.0
    sign_ins: int = 50
    sign_in_seconds: float = 10.0
    tokens: int = 2000
    ide_seconds: int = 4
    rounds: int = 3
    transfer_bytes: int = 2 << 30
    api_core: int | None = None


QUICK = Scale(
    fleet=12,
    large_fleet=24,
    own_servers=5,
    connections=2,
    paced_rate=50,
    load_seconds=0.5,
    poll_seconds=1.0,
    settle_seconds=0.5,
    askers=2,
    ask_seconds=0.2,
    idle_actors=50,
    operations=3,
    publishings=2,
    published=60,
    published_at_once=6,
    renamed=2,
    viewers=5,
    console_rate=200,
    console_seconds=1.0,
    sign_ins=3,
    sign_in_seconds=1.0,
    tokens=50,
    transfer_bytes=32 << 20,
    ide_seconds=1,
    rounds=1,
)
