"""What is kept in a file, so that a second run finds the same containers and tasks.

A task that ran when the process ended is found ended with "unexpected status", as Proxmox says of a worker that is
gone; a half-made clone is dropped and its template unlocked, as the worker would have done on its way out.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fakepve.server import FakeCt

from zlh.simulators.proxmox.host import Host

_TASKS_KEPT = 1000
_CT_FIELDS = ("vmid", "node", "status", "config", "pending", "snapshots", "pool", "started_at")


def dump(host: Host, version: int) -> dict[str, Any]:
    return {
        "version": version,
        "nodes": sorted(host.sizes),
        "pools": {name: sorted(ids) for name, ids in host.pools.items()},
        "containers": [{key: getattr(ct, key) for key in _CT_FIELDS} for ct in host.cts],
        "tasks": host.tasklog[-_TASKS_KEPT:],
    }


def load(host: Host, document: dict[str, Any]) -> int:
    """Fills an empty host; returns the version that the document had. Raises KeyError or TypeError for nonsense."""
    for kept in document["containers"]:
        if kept["config"].get("lock") == "create":
            continue
        if kept["config"].get("lock") in ("disk", "destroyed"):
            del kept["config"]["lock"]
        ct = FakeCt(kept["vmid"], node=kept["node"], status=kept["status"], config=kept["config"], defaults=False)
        ct.pending, ct.snapshots, ct.pool = kept["pending"], kept["snapshots"], kept["pool"]
        ct.started_at = kept["started_at"]
        ct.pid = next(host._ct_pids) if ct.status == "running" else None
        host.cts.append(ct)
    host.pools.update({name: set(ids) for name, ids in document["pools"].items()})
    for task in document["tasks"]:
        if task["status"] == "running":
            task.update(status="stopped", exitstatus="unexpected status", endtime=task["starttime"])
        host.tasks[task["upid"]] = task
        host.tasklog.append(task)
    return int(document["version"])


def read(path: Path) -> dict[str, Any] | None:
    """The document, or None where there is none yet."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    document = json.loads(text)
    return document if isinstance(document, dict) else None


def write(path: Path, document: dict[str, Any]) -> None:
    """Replaces the file as a whole: a reader sees the old one or the new one."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(json.dumps(document))
    os.replace(draft, path)
