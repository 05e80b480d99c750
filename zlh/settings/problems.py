"""What is wrong with the settings, all of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class SettingsError(Exception):
    """`problems` holds one sentence per problem, each naming its file (or variable) and key."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("the settings are wrong:\n" + "\n".join(f"  {problem}" for problem in problems))
        self.problems = tuple(problems)


def unknown(name: str, known: Iterable[str]) -> str:
    """The sentence for a name that nothing knows, with the nearest that something does."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"unknown, did you mean {near[0]}?" if near else "unknown"
