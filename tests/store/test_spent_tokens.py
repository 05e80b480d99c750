"""A single-use token is used once, whoever tries at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import sqlalchemy as sa

from tests.store.samples import NOW
from zlh.store import spent_tokens


def test_the_first_time_only(connection: sa.Connection) -> None:
    assert [spent_tokens.spend(connection, "a", NOW) for _ in range(3)] == [True, False, False]
    assert spent_tokens.spend(connection, "b", NOW)


def test_many_at_the_same_moment(engine: sa.Engine) -> None:
    def spend(_: int) -> bool:
        with engine.begin() as connection:
            return spent_tokens.spend(connection, "a", NOW)

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(spend, range(8))) == [False] * 7 + [True]


def test_only_the_expired_are_forgotten(connection: sa.Connection) -> None:
    spent_tokens.spend(connection, "old", NOW)
    spent_tokens.spend(connection, "young", NOW + timedelta(seconds=1))
    assert spent_tokens.purge(connection, NOW + timedelta(seconds=1)) == 1
    assert not spent_tokens.spend(connection, "young", NOW)
