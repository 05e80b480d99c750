"""How often each route answered what."""

from __future__ import annotations

from collections import Counter


class Traffic:
    """Counts by (route, status), since the start."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()

    def count(self, route: str, status: int) -> None:
        self.answers[route, status] += 1
