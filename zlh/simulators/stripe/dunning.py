"""What is done when a renewal is not paid."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from zlh.simulators.stripe.periods import DAY


class End(StrEnum):
    """What a subscription becomes when every attempt has failed."""

    UNPAID = "unpaid"
    CANCELED = "canceled"
    PAST_DUE = "past_due"


@dataclass(frozen=True)
class Dunning:
    """Days after the first failure on which the card is tried again; then the end."""

    days: tuple[int, ...] = (1, 3, 5)
    end: End = End.UNPAID

    def next(self, first_failure: int, failures: int) -> int | None:
        """When the next attempt is, after so many failures; None: there is none."""
        if failures > len(self.days):
            return None
        return first_failure + self.days[failures - 1] * DAY
