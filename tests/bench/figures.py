"""What a benchmark finds: numbers with a unit, and an aim where there is one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Aim:
    """A value that a figure should reach (`at_least`) or keep under."""

    value: float
    at_least: bool

    def met(self, value: float) -> bool:
        return value >= self.value if self.at_least else value <= self.value


def at_least(value: float) -> Aim:
    return Aim(value, at_least=True)


def at_most(value: float) -> Aim:
    return Aim(value, at_least=False)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `note` says what a reader must know to judge it; NaN is a number that could not be had."""

    name: str
    value: float
    unit: str
    aim: Aim | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the aim was reached, None where there is none."""
        return None if self.aim is None else self.aim.met(self.value)

    def as_dict(self) -> dict[str, Any]:
        aim = None if self.aim is None else {"value": self.aim.value, "atLeast": self.aim.at_least}
        value = None if math.isnan(self.value) else self.value
        return {
            "name": self.name,
            "value": value,
            "unit": self.unit,
            "aim": aim,
            "met": self.met,
            "note": self.note,
        }


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of all do not exceed; NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1 if share else 0)]
