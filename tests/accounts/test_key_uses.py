"""When the last uses of API keys are written: soon, seldom, and never in anybody's way."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import trio
import trio.testing

from zlh.accounts.key_uses import BEAT_SECONDS, EVERY, KeyUses
from zlh.store import Database, StoreUnavailable
from zlh.store.api_keys import KeyUse

MINUTE = EVERY.total_seconds()


def now() -> datetime:
    return datetime.fromtimestamp(trio.current_time(), UTC)


class Paper:
    """A database that is away while `away`, and slow by `pause` seconds; keeps what was written, with the time."""

    def __init__(self) -> None:
        self.away = False
        self.pause = 0.0
        self.written: list[tuple[float, dict[str, str]]] = []

    async def run(self, fn: Any, uses: Iterable[KeyUse]) -> None:
        uses = list(uses)
        await trio.sleep(self.pause)
        if self.away:
            raise StoreUnavailable("away for a test")
        self.written.append((trio.current_time(), {use.key_id: use.address for use in uses}))


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
async def uses(paper: Paper, nursery: trio.Nursery) -> KeyUses:
    made = KeyUses(cast(Database, paper), now)
    nursery.start_soon(made.run)
    return made


async def test_the_first_use_is_seen_soon_and_the_next_after_a_minute(
    autojump_clock: trio.testing.MockClock, uses: KeyUses, paper: Paper
) -> None:
    began = trio.current_time()
    for number in range(300):
        uses.note("a", f"192.0.2.{number}")
        await trio.sleep(1)
    await trio.sleep(2 * MINUTE)
    times = [at - began for at, _ in paper.written]
    assert times[0] <= BEAT_SECONDS
    assert all(MINUTE <= later - earlier <= MINUTE + BEAT_SECONDS for earlier, later in itertools.pairwise(times))
    assert len(times) == 6
    assert paper.written[-1][1] == {"a": "192.0.2.299"}


async def test_many_keys_are_one_batch(autojump_clock: trio.testing.MockClock, uses: KeyUses, paper: Paper) -> None:
    for number in range(1000):
        uses.note(f"key {number}", "")
    await trio.sleep(BEAT_SECONDS + 1)
    assert [len(batch) for _, batch in paper.written] == [1000]
    await trio.sleep(3 * MINUTE)
    assert len(paper.written) == 1
    assert not uses._waiting
    assert not uses._written


async def test_an_outage_loses_freshness_alone(
    autojump_clock: trio.testing.MockClock, uses: KeyUses, paper: Paper, caplog: pytest.LogCaptureFixture
) -> None:
    paper.away = True
    with caplog.at_level(logging.WARNING):
        for number in range(30):
            uses.note("a", f"192.0.2.{number}")
            await trio.sleep(BEAT_SECONDS)
    assert len([record for record in caplog.records if "API keys" in record.message]) == 1
    paper.away = False
    await trio.sleep(BEAT_SECONDS + 1)
    assert [batch for _, batch in paper.written] == [{"a": "192.0.2.29"}]


async def test_a_use_while_one_is_written_is_not_lost(
    autojump_clock: trio.testing.MockClock, uses: KeyUses, paper: Paper
) -> None:
    paper.pause = 3.0
    uses.note("a", "192.0.2.1")
    await trio.sleep(BEAT_SECONDS + 1)
    assert paper.written == []
    uses.note("a", "192.0.2.2")
    await trio.sleep(3 * MINUTE)
    assert [batch["a"] for _, batch in paper.written] == ["192.0.2.1", "192.0.2.2"]


async def test_an_unknown_address_leaves_the_one_before(
    autojump_clock: trio.testing.MockClock, uses: KeyUses, paper: Paper
) -> None:
    uses.note("a", "192.0.2.1")
    uses.note("a", "")
    uses.note("b", "x" * 1000)
    await trio.sleep(BEAT_SECONDS + 1)
    assert paper.written[0][1] == {"a": "192.0.2.1", "b": "x" * 64}
