"""What can go wrong, by name: the body of POST /faults on the control port.

Every fault is an object with `name` and its parameters; several may be posted as a list. DELETE /faults clears all
of them. `path` is a regular expression searched in the request's path below /api2/json; `method` is one of GET, POST,
PUT and DELETE, or missing for any; `times` is how often (missing: until cleared); `type` is Proxmox's task type
(vzclone, vzstart, vzstop, vzshutdown, vzreboot, vzdestroy, resize), `vmid` the container it works on (for a clone the
new one).

    node-offline     node                      requests for the node answer 595, its guests are "unknown"
    quorum-lost                                "cluster not ready - no quorum?"
    locked           vmid, lock="backup"       "CT is locked (backup)"
    lock-held        vmid                      the config lock is held: "can't lock file ... got timeout"
    lock-timeouts    times, path?              that text at once for mutations of containers
    down             how="refuse"              connections refused; how="503" or "596": that status for all
    slow             seconds, path?, method?   answers later, in real seconds
    fail-before      path, method?, times?, status=500, message="got an error"   answers so, nothing done
    fail-after       the same                  answers so, the work done
    lost-answer      path, method?, times?     the work is done, the connection cut
    garbage          path, method?, times?, body="<html>", status=200            answers that body, nothing done
    task-fails       type, exit_status, vmid?, times?, after=false   half way, or with after=true at the very end
    task-hangs       type, vmid?, times?       the task runs until the faults are cleared
    hidden           vmid                      /cluster/resources does not list it
    powers-frozen                              /cluster/resources tells every power as it was when the fault began
    signed-out                                 every ticket is forgotten, once
    ticket-lifetime  seconds                   of tickets issued from now on
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any

_REQUEST = {"method", "path", "times"}
_TASK = {"type", "vmid", "times"}
_PARAMETERS: dict[str, tuple[set[str], set[str]]] = {
    # name: (needed, allowed besides)
    "node-offline": ({"node"}, set()),
    "quorum-lost": (set(), set()),
    "locked": ({"vmid"}, {"lock"}),
    "lock-held": ({"vmid"}, set()),
    "lock-timeouts": ({"times"}, {"path"}),
    "down": (set(), {"how"}),
    "slow": ({"seconds"}, {"path", "method"}),
    "fail-before": ({"path"}, _REQUEST | {"status", "message"}),
    "fail-after": ({"path"}, _REQUEST | {"status", "message"}),
    "lost-answer": ({"path"}, _REQUEST),
    "garbage": ({"path"}, _REQUEST | {"body", "status"}),
    "task-fails": ({"type", "exit_status"}, _TASK | {"after"}),
    "task-hangs": ({"type"}, _TASK),
    "hidden": ({"vmid"}, set()),
    "powers-frozen": (set(), set()),
    "signed-out": (set(), set()),
    "ticket-lifetime": ({"seconds"}, set()),
}
_KINDS: dict[str, type | tuple[type, ...]] = {
    "vmid": int,
    "times": int,
    "status": int,
    "seconds": (int, float),
    "after": bool,
}


@dataclass
class Fault:
    """One fault that is on. `left` counts down its uses; None is for ever."""

    name: str
    parameters: dict[str, Any]
    left: int | None
    cleared: asyncio.Event = field(default_factory=asyncio.Event)

    def __getitem__(self, key: str) -> Any:
        return self.parameters[key]

    def get(self, key: str, default: Any) -> Any:
        return self.parameters.get(key, default)


class Faults:
    """The faults that are on."""

    def __init__(self) -> None:
        self._on: list[Fault] = []
        self._spent: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._on.append(fault)

    def clear(self) -> list[Fault]:
        """Turns all of them off and returns them, used-up ones too; hanging tasks go on."""
        cleared = self._on + self._spent
        self._on, self._spent = [], []
        for fault in cleared:
            fault.cleared.set()
        return cleared

    def document(self) -> list[dict[str, Any]]:
        return [{"name": fault.name, **fault.parameters, "left": fault.left} for fault in self._on]

    def all(self, name: str) -> list[Fault]:
        return [fault for fault in self._on if fault.name == name]

    def request(self, names: set[str], method: str, path: str) -> Fault | None:
        """The first of these faults that is meant for this request; uses it up once."""
        for fault in self._on:
            if fault.name in names and _meant(fault, method, path):
                return self._used(fault)
        return None

    def task(self, kind: str, vmid: int | None) -> Fault | None:
        """The first fault for a task of this type on this container; uses it up once."""
        for fault in self.all("task-fails") + self.all("task-hangs"):
            if fault["type"] == kind and fault.get("vmid", vmid) == vmid:
                return self._used(fault)
        return None

    def _used(self, fault: Fault) -> Fault:
        if fault.left is not None:
            fault.left -= 1
            if fault.left <= 0:
                self._on.remove(fault)
                self._spent.append(fault)
        return fault


def _meant(fault: Fault, method: str, path: str) -> bool:
    if fault.name == "lock-timeouts" and (method == "GET" or "/lxc/" not in path):
        return False
    return fault.get("method", method) == method and re.search(fault.get("path", ""), path) is not None


def parse(document: object) -> Fault:
    """Raises ValueError for an unknown name, or parameters that are missing, unknown or of a wrong type."""
    if not isinstance(document, dict):
        raise ValueError("a fault is an object with a name")
    parameters = dict(document)
    name = parameters.pop("name", None)
    if name not in _PARAMETERS:
        raise ValueError(f"unknown fault {name!r}; known: {', '.join(_PARAMETERS)}")
    needed, allowed = _PARAMETERS[name]
    if missing := needed - parameters.keys():
        raise ValueError(f"{name} needs {', '.join(sorted(missing))}")
    if unknown := parameters.keys() - needed - allowed:
        raise ValueError(f"{name} does not know {', '.join(sorted(unknown))}")
    for key, value in parameters.items():
        if not isinstance(value, _KINDS.get(key, str)):
            raise ValueError(f"{name}: {key} has the wrong type")
    try:
        re.compile(parameters.get("path", ""))
    except re.error as error:
        raise ValueError(f"{name}: path is no regular expression: {error}") from None
    return Fault(name, parameters, parameters.get("times"))
