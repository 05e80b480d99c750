"""What the fleet is told by the composition root: names, ranges, limits and time-outs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zlh.model.containers import ContainerType


@dataclass(frozen=True, slots=True)
class Polling:
    """Cadence of a poller in seconds. `tick_seconds` is the grid on which polls are aligned."""

    transition_seconds: float = 1.0
    running_seconds: float = 5.0
    stopped_seconds: float = 30.0
    timeout_seconds: float = 2.0
    misses: int = 3
    slow_seconds: float = 60.0
    players_seconds: float = 15.0
    tick_seconds: float = 0.05


@dataclass(frozen=True, slots=True)
class Options:
    """`address_pool` empty means DHCP, whose addresses count if they are in one of `networks`, or any where there are
    none. `net0` is Proxmox's property string without address and gateway. `reserved_names` are those that nobody may
    choose, besides the usual ones. `list_lag_seconds`: how old Proxmox's list of all containers may be."""

    zone: str = "zlh.localhost"
    vmids: dict[ContainerType, range] = field(
        default_factory=lambda: {ContainerType.GAME: range(5000, 6000), ContainerType.DEV: range(6000, 7000)}
    )
    templates: dict[ContainerType, tuple[int, ...]] = field(
        default_factory=lambda: {ContainerType.GAME: (9000,), ContainerType.DEV: (9001,)}
    )
    nodes: tuple[str, ...] = ()
    storage: str | None = None
    pool: str | None = None
    clone_full: bool = True
    net0: str = "name=eth0,bridge=vmbr0"
    address_pool: Sequence[str] = ()
    address_prefix: int = 24
    networks: Sequence[str] = ()
    gateway_address: str | None = None
    nameserver: str | None = None
    agent_port: int = 18888
    bootstrap_token: str = field(default="", repr=False)
    concurrent_operations: int = 10
    mutations_per_node: int = 4
    watch_seconds: float = 5.0
    list_lag_seconds: float = 12.0
    clone_seconds: float = 600.0
    boot_seconds: float = 120.0
    agent_seconds: float = 180.0
    install_seconds: float = 1800.0
    restore_seconds: float = 3600.0
    shutdown_seconds: float = 60.0
    history_lines: int = 1000
    input_per_second: float = 20.0
    reserved_names: frozenset[str] = frozenset()
    polling: Polling = Polling()
