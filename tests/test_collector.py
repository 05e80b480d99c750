"""What lives once the program has settled is looked at no more by Python's garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from zlh.collector import SETTLED_SECONDS, set_aside_what_stays


class Ring:
    """Refers to itself, so that only the collector can free it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def nothing_frozen() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


async def test_not_before_it_has_settled(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(set_aside_what_stays)
        await trio.sleep(SETTLED_SECONDS - 1)
        early = Ring()
        assert any(seen is early for seen in gc.get_objects())
        await trio.sleep(2)
        assert gc.get_freeze_count() > 1000
        assert not any(seen is early for seen in gc.get_objects())
        later = Ring()
        assert any(seen is later for seen in gc.get_objects())
