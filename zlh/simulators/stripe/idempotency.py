"""Idempotency keys: the same request with the same key is answered as it was, for 24 hours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from zlh.simulators.stripe.errors import Document, Wrong
from zlh.simulators.stripe.periods import DAY

LONGEST = 255


@dataclass
class Answer:
    """`status` is None while the first request is being answered."""

    path: str
    values: dict[str, Any]
    request: str
    at: int
    status: int | None = None
    body: Document | None = None


class Idempotency:
    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._answers: dict[str, Answer] = {}

    def begin(self, key: str, path: str, values: dict[str, Any], request: str) -> Answer | None:
        """The answer that was given before; None where the request is the first with that key, which is taken.
        Raises Wrong(400) where it was another request, Wrong(409) where that is still being answered."""
        if len(key) > LONGEST:
            words = f"Idempotency keys can be at most {LONGEST} characters."
            raise Wrong(400, words, kind="idempotency_error")
        kept = self._answers.get(key)
        if kept is not None and kept.at < self._now() - DAY:
            kept = None
        if kept is None:
            self._answers[key] = Answer(path, values, request, self._now())
            return None
        other = f"Try using a key other than '{key}' if you meant to execute a different request."
        if kept.path != path:
            words = "Keys for idempotent requests can only be used for the same endpoint they were first used for "
            raise Wrong(400, f"{words}('{path}' vs '{kept.path}'). {other}", kind="idempotency_error")
        if kept.values != values:
            words = (
                "Keys for idempotent requests can only be used with the same parameters they were first used with."
            )
            raise Wrong(400, f"{words} {other}", kind="idempotency_error")
        if kept.status is None:
            words = (
                "There is currently another in-progress request using this Idempotent Key (that probably means you "
            )
            words += f"submitted twice, and the other request is still going through): {key}. Please try again later."
            raise Wrong(409, words, kind="idempotency_error", code="idempotency_key_in_use", retry=True)
        return kept

    def keep(self, key: str, status: int, body: Document) -> None:
        answer = self._answers[key]
        answer.status, answer.body = status, body

    def forget(self, key: str) -> None:
        """Nothing was executed: the key can be used again."""
        self._answers.pop(key, None)

    def export(self) -> Document:
        return {key: asdict(answer) for key, answer in self._answers.items() if answer.status is not None}

    def load(self, state: Document) -> None:
        self._answers = {key: Answer(**answer) for key, answer in state.items()}
