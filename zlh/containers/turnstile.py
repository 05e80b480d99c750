"""Limits that Proxmox sets us: one clone at a time of a template, a few mutations at a time on a node."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Gate:
    inside: set[int] = field(default_factory=set)
    waiting: deque[int] = field(default_factory=deque)


class Turnstile:
    """Counted places by key; when one is free, `nudge` is called for the first in line.

    Never waits: who is refused is nudged later and asks again. Places belong to a vmid, not to a task, so a restarted
    actor finds its own.
    """

    def __init__(self, capacity: int, nudge: Callable[[int], None]) -> None:
        self._capacity = capacity
        self._nudge = nudge
        self._gates: dict[str, _Gate] = {}

    def enter(self, key: str, vmid: int) -> bool:
        """True when `vmid` holds a place at `key` now; otherwise it waits in line and is nudged."""
        gate = self._gates.setdefault(key, _Gate())
        if vmid in gate.inside:
            return True
        if vmid not in gate.waiting:
            gate.waiting.append(vmid)
        # Whoever asks while there is room goes in: the first in line was nudged, but may be busy or quarantined.
        if len(gate.inside) >= self._capacity:
            return False
        gate.waiting.remove(vmid)
        gate.inside.add(vmid)
        return True

    def adopt(self, key: str, vmid: int) -> None:
        """Takes a place for work that already runs in Proxmox, whatever the count."""
        gate = self._gates.setdefault(key, _Gate())
        if vmid in gate.waiting:
            gate.waiting.remove(vmid)
        gate.inside.add(vmid)

    def leave(self, vmid: int) -> None:
        """Gives up every place and every place in line that `vmid` holds; the next in line are nudged."""
        for key, gate in list(self._gates.items()):
            if vmid not in gate.inside and vmid not in gate.waiting:
                continue
            gate.inside.discard(vmid)
            if vmid in gate.waiting:
                gate.waiting.remove(vmid)
            if not gate.inside and not gate.waiting:
                del self._gates[key]
            elif gate.waiting and len(gate.inside) < self._capacity:
                self._nudge(gate.waiting[0])
