"""Ports of a dev container that were opened to the outside, and for whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Visibility(StrEnum):
    """Who gets to a forwarded port."""

    PRIVATE = "private"
    """Whoever may open the container's IDE."""
    SIGNED_IN = "signed_in"
    """Everybody with an account."""
    PUBLIC = "public"
    """Everybody, without a sign-in."""


@dataclass(frozen=True, slots=True)
class ForwardedPort:
    vmid: int
    port: int
    visibility: Visibility
    label: str
    created_at: datetime
