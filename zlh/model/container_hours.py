"""Hours that containers ran, as intervals of time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from zlh.model.containers import ContainerType


@dataclass(frozen=True, slots=True)
class Running:
    """A container that is seen to run, and whose account pays by which plan ("" for none)."""

    vmid: int
    account_id: int
    ctype: ContainerType
    plan: str


@dataclass(frozen=True, slots=True)
class OpenInterval:
    """One that is not over: since when, and until when it was seen to run."""

    what: Running
    started_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Interval:
    """`ended_at` is not part of it."""

    what: Running
    started_at: datetime
    ended_at: datetime
