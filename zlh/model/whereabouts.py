"""What must be known of a container before somebody is let through to it."""

from __future__ import annotations

from dataclasses import dataclass

from zlh.model.containers import Container, Power
from zlh.model.operations import OperationKind


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """The row, the power of its host as Proxmox told it last, and the kind of the operation in flight, if any. `met`:
    the container's own agent answers at the row's address, so that this is no other machine's."""

    row: Container
    power: Power
    doing: OperationKind | None
    met: bool
