"""Reads from memory: the cached body is always the fresh one, owners see their own, followers miss no end."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.containers.samples import NOW, a_row, agents, an_operation, hosts
from zlh.containers.followers import Followers
from zlh.containers.projection import Projection
from zlh.model.access import Sight
from zlh.model.errors import AbsentError
from zlh.model.observed import AgentObservation, HostObservation
from zlh.model.operations import Operation, OperationState

VMIDS = st.integers(5000, 5003)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("add"), VMIDS, st.none()),
        st.tuples(st.just("remove"), VMIDS, st.none()),
        st.tuples(st.just("agent"), VMIDS, agents),
        st.tuples(st.just("host"), VMIDS, hosts),
        st.tuples(st.just("time"), VMIDS, st.none()),
    ),
    max_size=12,
)


@given(actions)
def test_the_cached_body_is_the_fresh_one(course: list[tuple[str, int, object]]) -> None:
    now = NOW
    projection = Projection(lambda: now)
    for action, vmid, observed in course:
        known = projection.get(vmid)
        if action == "add" and known is None:
            projection.add(a_row(vmid, owner_id=vmid % 2))
        elif action == "remove":
            projection.remove(vmid)
        elif action == "time":
            now += 0.7
        elif known is not None and isinstance(observed, AgentObservation):
            known.observe_agent(observed)
        elif known is not None and isinstance(observed, HostObservation):
            known.observe_host(observed)
        for owner in (None, 0, 1):
            cells = sorted(projection.cells(owner), key=lambda cell: cell.vmid)
            # A body is as old as the second it was built in.
            fresh = [cell.server(int(now)).as_dict() for cell in cells]
            assert orjson.loads(projection.servers_json(Sight(owner))) == orjson.loads(
                orjson.dumps({"servers": fresh})
            )
            assert projection.servers_json(Sight(owner)) is projection.servers_json(Sight(owner))
            assert all(owner is None or cell.row.owner_id == owner for cell in cells)


def test_unknown_ones_are_absent() -> None:
    projection = Projection(lambda: NOW)
    with pytest.raises(AbsentError):
        projection.cell(5000)
    projection.remove(5000)
    assert projection.servers_json(Sight(99)) == b'{"servers":[]}'


async def test_changes_are_coalesced_and_ones_own(autojump_clock: MockClock) -> None:
    projection = Projection(lambda: NOW)
    mine, other = projection.add(a_row(5001)), projection.add(a_row(5002, owner_id=8))
    async with projection.changes(Sight(7)) as changes:
        for _ in range(5):
            mine.observe_host(HostObservation())
            other.observe_host(HostObservation())
        assert await anext(changes) == {5001}
        projection.remove(5001)
        assert await anext(changes) == {5001}
        with trio.move_on_after(60):
            other.observe_host(HostObservation())
            pytest.fail(f"told of {await anext(changes)}")
    assert projection._watchers == set()


async def test_a_follower_may_skip_states_but_never_the_last() -> None:
    followers = Followers()
    operation = an_operation()
    seen: list[Operation] = []

    async def follow() -> None:
        with followers.follow(operation) as states:
            seen.extend([state async for state in states])

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await wait_all_tasks_blocked()
            for revision in range(1, 9):
                followers.publish(replace(operation, revision=revision))
            # One that is older than what was seen says nothing.
            followers.publish(replace(operation, revision=3))
            await wait_all_tasks_blocked()
            followers.publish(replace(operation, revision=9, state=OperationState.SUCCEEDED))
    assert [state.revision for state in seen] == [0, 8, 9]
    assert followers._followers == {}


def test_of_an_owner_without_containers_nothing_is_kept() -> None:
    projection = Projection(lambda: NOW)
    empty = projection.servers_json(Sight(7))
    kept = [len(state) for state in (projection._owned, projection._versions, projection._bodies)]
    for _ in range(3):
        projection.add(a_row(5001))
        assert b"5001" in projection.servers_json(Sight(7)), "no body of before is taken for the present one"
        projection.remove(5001)
        assert projection.servers_json(Sight(7)) == empty
    assert [len(state) for state in (projection._owned, projection._versions, projection._bodies)] == kept
