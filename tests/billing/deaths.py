"""A process that dies between any two things that it does."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tests.billing.till import Till


class Died(Exception):
    pass


class Deaths:
    """Counts what is asked of Stripe and of the database, and dies before the step `at`: what was done until then is
    done, and nobody here knows of it any more."""

    def __init__(self, till: Till) -> None:
        self._ask = till.driver._ask
        self._run = till.database.run
        till.driver._ask = self._asked  # type: ignore[method-assign]
        till.database.run = self._ran  # type: ignore[method-assign]
        self._left = 0

    def arm(self, at: int) -> None:
        self._left = at

    def disarm(self) -> None:
        self._left = 0

    async def _asked(self, call: Coroutine[Any, Any, Any]) -> Any:
        if self._dies():
            call.close()
            raise Died
        return await self._ask(call)

    async def _ran(self, fn: Callable[..., Any], /, *arguments: Any, **more: Any) -> Any:
        if self._dies():
            raise Died
        return await self._run(fn, *arguments, **more)

    def _dies(self) -> bool:
        self._left -= 1
        return self._left == 0
