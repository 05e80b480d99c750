from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from tests.store.samples import add_account, reserve
from tests.store.test_races import at_once
from zlh.model.errors import AbsentError
from zlh.store import containers
from zlh.store.public_ports import assign, everybodys, fits, lowest_run, release

POOL = range(30000, 30006)


def add_containers(connection: sa.Connection, count: int) -> list[int]:
    container, _ = reserve(connection, add_account(connection).id)
    rows = [
        replace(container, vmid=20_000 + number, hostname=f"game-{20_000 + number}", address=None)
        for number in range(count)
    ]
    containers.insert(connection, rows)
    return [row.vmid for row in rows]


def test_each_gets_the_lowest_free_ports_in_a_row_and_keeps_them(connection: sa.Connection) -> None:
    first, second, third = add_containers(connection, 3)
    assert assign(connection, first, "tcp", 2, POOL) == (30000, 30001)
    assert assign(connection, second, "tcp", 1, POOL) == (30002,)
    assert assign(connection, first, "tcp", 2, POOL) == (30000, 30001)
    assert assign(connection, third, "udp", 2, POOL) == (30000, 30001), "each protocol has ports of its own"
    assert everybodys(connection) == {
        first: ("tcp", (30000, 30001)),
        second: ("tcp", (30002,)),
        third: ("udp", (30000, 30001)),
    }


def test_the_end_of_the_row_frees_them(connection: sa.Connection) -> None:
    first, second = add_containers(connection, 2)
    assign(connection, first, "tcp", 6, POOL)
    assert assign(connection, second, "tcp", 1, POOL) is None
    containers.delete(connection, first)
    assert assign(connection, second, "tcp", 1, POOL) == (30000,)


def test_a_row_of_ports_goes_around_what_is_taken(connection: sa.Connection) -> None:
    first, second, third = add_containers(connection, 3)
    assign(connection, first, "tcp", 2, POOL)
    assign(connection, second, "tcp", 1, POOL)
    release(connection, first)
    assert assign(connection, third, "tcp", 3, POOL) == (30003, 30004, 30005)


def test_what_does_not_fit_any_more_is_exchanged(connection: sa.Connection) -> None:
    (vmid,) = add_containers(connection, 1)
    assign(connection, vmid, "tcp", 2, POOL)
    assert assign(connection, vmid, "tcp", 3, POOL) == (30000, 30001, 30002)
    assert assign(connection, vmid, "udp", 1, POOL) == (30000,)
    assert assign(connection, vmid, "udp", 1, range(31000, 31002)) == (31000,)
    assert everybodys(connection) == {vmid: ("udp", (31000,))}


def test_a_container_that_is_gone_gets_none(connection: sa.Connection) -> None:
    with pytest.raises(AbsentError):
        assign(connection, 29_999, "tcp", 1, POOL)


def test_many_at_once_never_share_one(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        vmids = add_containers(connection, 8)
    pool = range(30000, 30016)

    def ask(vmid: int, connection: sa.Connection) -> tuple[int, ...] | None:
        return assign(connection, vmid, "tcp", 2, pool)

    given = at_once(engine, [partial(ask, vmid) for vmid in vmids])
    assert sorted(port for ports in given if isinstance(ports, tuple) for port in ports) == list(pool)


@given(st.sets(st.integers(1, 20)), st.integers(1, 20), st.integers(0, 20), st.integers(1, 5))
def test_the_lowest_run_is_free_inside_and_the_lowest(taken: set[int], start: int, length: int, count: int) -> None:
    pool = range(start, start + length)
    runs = [
        first for first in pool if all(first + place in pool and first + place not in taken for place in range(count))
    ]
    assert lowest_run(taken, pool, count) == min(runs, default=None)


def test_what_fits() -> None:
    assert fits(("tcp", (30000, 30001)), "tcp", 2, POOL)
    assert not fits(("udp", (30000, 30001)), "tcp", 2, POOL)
    assert not fits(("tcp", (30000, 30001)), "tcp", 1, POOL)
    assert not fits(("tcp", (30005, 30006)), "tcp", 2, POOL), "its end is outside"
