"""Proxmox's answers as values. Pure; an answer of the wrong shape raises Invalid.

Sizes are bytes where Proxmox says bytes and MiB or GiB where the name says so; times are Unix seconds. Proxmox sends
truth as 1 and 0, some numbers as strings, and leaves out what does not apply.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zlh.drivers.errors import DriverError, Invalid
from zlh.drivers.proxmox.refusals import task_failure

_UPID = re.compile(
    r"UPID:([A-Za-z0-9][A-Za-z0-9-]*):([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8,9}):([0-9A-Fa-f]{8}):([^:\s]+):([^:\s]*):([^:\s]+):"
)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)")
_GIB = {"": 2**-30, "K": 2**-20, "M": 2**-10, "G": 1.0, "T": 1024.0}
_POWER = {"running": True, "stopped": False}


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster. `memory_*` are bytes, `cpu_load` is the share of `cpu_count` in use; 0 when offline."""

    name: str
    online: bool
    memory_total: int
    memory_used: int
    cpu_count: float
    cpu_load: float


@dataclass(frozen=True, slots=True)
class Guest:
    """A container or virtual machine. `running` is None while nobody knows (its node is offline, or just came up).

    `kind` is "lxc" or "qemu"; `memory` is its limit in bytes; `lock` is empty when it has none; `uptime` in seconds.
    """

    vmid: int
    node: str
    name: str
    kind: str
    running: bool | None
    template: bool
    lock: str
    tags: tuple[str, ...]
    memory: int
    uptime: int


@dataclass(frozen=True, slots=True)
class Cluster:
    nodes: tuple[Node, ...]
    guests: tuple[Guest, ...]


@dataclass(frozen=True, slots=True)
class GuestConfig:
    """What a container is set to; None where the config does not say. `disk_gib` is the size of its rootfs.

    `net0` is Proxmox's property string (`name=eth0,bridge=vmbr0,ip=10.0.0.5/24`); `digest` changes with every edit.
    """

    hostname: str
    description: str
    memory_mib: int | None
    swap_mib: int | None
    cores: int | None
    disk_gib: float | None
    net0: str
    lock: str
    tags: tuple[str, ...]
    onboot: bool
    template: bool
    digest: str


@dataclass(frozen=True, slots=True)
class GuestStatus:
    """`memory_*` are bytes, `uptime` seconds."""

    running: bool
    lock: str
    uptime: int
    memory_used: int
    memory_total: int


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """`succeeded` is False while it runs; `exit_status` is None until it ended."""

    running: bool
    succeeded: bool
    exit_status: str | None

    def error(self) -> DriverError | None:
        """Why it failed, in our words (`refusals.task_failure`); None while it runs and when it succeeded."""
        if self.exit_status is None or self.succeeded:
            return None
        return task_failure(self.exit_status)


@dataclass(frozen=True, slots=True)
class Task:
    """One line of a node's task list. `guest` is the id the task is filed under: for a clone, the *source's*."""

    upid: str
    type: str
    guest: str
    started: int
    ended: int | None
    status: TaskStatus


@dataclass(frozen=True, slots=True)
class Upid:
    """A task id taken apart. `started` is Unix seconds."""

    text: str
    node: str
    type: str
    guest: str
    user: str
    started: int

    @classmethod
    def parse(cls, text: object) -> Upid:
        """Raises Invalid for anything but a UPID."""
        match = _UPID.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise Invalid(f"not a task id: {_show(text)}")
        node, _pid, _pstart, started, kind, guest, user = match.groups()
        return cls(match.group(), node, kind, guest, user, int(started, 16))


def cluster(data: object) -> Cluster:
    """Of GET /cluster/resources. Other kinds of resource (storage, pools, networks) are passed over."""
    nodes, guests = [], []
    for item in _objects(data, "cluster resources"):
        kind = item.get("type")
        if kind == "node":
            nodes.append(_node(item))
        elif kind in ("lxc", "qemu"):
            guests.append(_guest(item, kind))
    if not nodes:
        # Without a node there is nobody who could have answered: "no guests" would be a lie.
        raise Invalid("the cluster resources name no node; may this user or token see them (Sys.Audit, VM.Audit)?")
    return Cluster(tuple(nodes), tuple(guests))


def _node(item: Mapping[str, Any]) -> Node:
    return Node(
        name=_text(item, "node"),
        online=item.get("status") == "online",
        memory_total=_integer(item, "maxmem", 0),
        memory_used=_integer(item, "mem", 0),
        cpu_count=_number(item, "maxcpu", 0.0),
        cpu_load=_number(item, "cpu", 0.0),
    )


def _guest(item: Mapping[str, Any], kind: str) -> Guest:
    return Guest(
        vmid=_vmid(item),
        node=_text(item, "node"),
        name=_text(item, "name", ""),
        kind=kind,
        running=_POWER.get(_text(item, "status", "unknown")),
        template=_truth(item, "template"),
        lock=_text(item, "lock", ""),
        tags=tags(_text(item, "tags", "")),
        memory=_integer(item, "maxmem", 0),
        uptime=_integer(item, "uptime", 0),
    )


def guest_config(data: object) -> GuestConfig:
    """Of GET /nodes/{node}/lxc/{vmid}/config."""
    item = _object(data, "config")
    return GuestConfig(
        hostname=_text(item, "hostname", ""),
        # Proxmox hands back a description with a line end that nobody gave it.
        description=_text(item, "description", "").rstrip("\n"),
        memory_mib=_optional_integer(item, "memory"),
        swap_mib=_optional_integer(item, "swap"),
        cores=_optional_integer(item, "cores"),
        disk_gib=_disk_gib(_text(item, "rootfs", "")),
        net0=_text(item, "net0", ""),
        lock=_text(item, "lock", ""),
        tags=tags(_text(item, "tags", "")),
        onboot=_truth(item, "onboot"),
        template=_truth(item, "template"),
        digest=_text(item, "digest", ""),
    )


def guest_status(data: object) -> GuestStatus:
    """Of GET /nodes/{node}/lxc/{vmid}/status/current. A state that is neither is Invalid: whoever asks acts on it."""
    item = _object(data, "status")
    status = _text(item, "status")
    if status not in _POWER:
        raise Invalid(f"a container with status {_show(status)}")
    return GuestStatus(
        running=_POWER[status],
        lock=_text(item, "lock", ""),
        uptime=_integer(item, "uptime", 0),
        memory_used=_integer(item, "mem", 0),
        memory_total=_integer(item, "maxmem", 0),
    )


def task_status(data: object) -> TaskStatus:
    """Of GET /nodes/{node}/tasks/{upid}/status: `status: stopped` says only that the task ended."""
    item = _object(data, "task status")
    status = _text(item, "status")
    if status == "running":
        return TaskStatus(running=True, succeeded=False, exit_status=None)
    if status == "stopped":
        return _ended(_text(item, "exitstatus", "unexpected status"))
    raise Invalid(f"a task with status {_show(status)}")


def tasks(data: object) -> tuple[Task, ...]:
    """Of GET /nodes/{node}/tasks, where `status` is the exit status, and missing or RUNNING while it runs."""
    return tuple(_task(item) for item in _objects(data, "task list"))


def _task(item: Mapping[str, Any]) -> Task:
    upid = Upid.parse(item.get("upid"))
    told = _text(item, "status", "RUNNING")
    ended = _optional_integer(item, "endtime")
    if ended is None and told == "RUNNING":
        status = TaskStatus(running=True, succeeded=False, exit_status=None)
    else:
        status = _ended("unexpected status" if told == "RUNNING" else told)
    return Task(upid.text, upid.type, upid.guest, upid.started, ended, status)


def _ended(exit_status: str) -> TaskStatus:
    succeeded = exit_status == "OK" or exit_status.startswith("WARNINGS: ")
    return TaskStatus(running=False, succeeded=succeeded, exit_status=exit_status)


def addresses(data: object) -> tuple[str, ...]:
    """Of GET /nodes/{node}/lxc/{vmid}/interfaces: IPv4 first; without `lo`, link-local and unspecified addresses.

    PVE 8.4 and later list `ip-addresses`; older ones have one `inet` and one `inet6` with prefix. `null` means that
    the container does not run.
    """
    found: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = []
    for item in _objects(data or [], "interfaces"):
        if item.get("name") == "lo":
            continue
        for text in _address_texts(item):
            address = _address(text)
            if not (address.is_link_local or address.is_unspecified) and address not in found:
                found.append(address)
    return tuple(str(address) for address in sorted(found, key=lambda address: address.version))


def _address_texts(item: Mapping[str, Any]) -> list[str]:
    texts = [_text(item, family) for family in ("inet", "inet6") if item.get(family)]
    listed = item.get("ip-addresses") or []
    return texts + [_text(entry, "ip-address") for entry in _objects(listed, "ip-addresses")]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text.partition("/")[0].partition("%")[0])
    except ValueError:
        raise Invalid(f"not an IP address: {_show(text)}") from None


def version(data: object) -> str:
    """Of GET /version."""
    return _text(_object(data, "version"), "version")


def tags(text: str) -> tuple[str, ...]:
    """Proxmox takes tags separated by semicolons, commas or blanks."""
    return tuple(tag for tag in re.split(r"[;,\s]+", text) if tag)


def _disk_gib(rootfs: str) -> float | None:
    for part in rootfs.split(","):
        name, _, value = part.partition("=")
        if name == "size":
            match = _SIZE.fullmatch(value)
            if match is None:
                raise Invalid(f"not a size: {_show(value)}")
            return float(match[1]) * _GIB[match[2]]
    return None


def _objects(data: object, what: str) -> list[Mapping[str, Any]]:
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise Invalid(f"{what}: not a list of objects")
    return data


def _object(data: object, what: str) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise Invalid(f"{what}: not an object")
    return data


def _text(item: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = item.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, str):
        return value
    # A hostname or tag of digits only comes as a number.
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise Invalid(f"{key}: expected text, got {_show(value)}")


def _number(item: Mapping[str, Any], key: str, default: float) -> float:
    value = item.get(key, default)
    try:
        # JSON's true is an int in Python, and "nan" is a float.
        number = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not 0 <= number < 2**63:
        raise Invalid(f"{key}: expected a number, got {_show(value)}")
    return number


def _integer(item: Mapping[str, Any], key: str, default: int) -> int:
    return int(_number(item, key, default))


def _optional_integer(item: Mapping[str, Any], key: str) -> int | None:
    return None if item.get(key) is None else _integer(item, key, 0)


def _vmid(item: Mapping[str, Any]) -> int:
    vmid = _integer(item, "vmid", 0)
    if vmid < 1:
        raise Invalid(f"vmid: expected a number above 0, got {_show(item.get('vmid'))}")
    return vmid


def _truth(item: Mapping[str, Any], key: str) -> bool:
    value = item.get(key, 0)
    if value in (0, 1, "0", "1"):
        return value in (1, "1")
    raise Invalid(f"{key}: expected 0 or 1, got {_show(value)}")


def _show(value: object) -> str:
    return repr(value)[:80]
