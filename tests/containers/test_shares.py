"""What others share is in sight, beside one's own; without any of it nothing is different."""

from __future__ import annotations

import orjson
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.containers.samples import NOW, a_row
from zlh.containers.projection import Projection
from zlh.model.access import Permission, Sight, with_implied
from zlh.model.observed import HostObservation

POWER = with_implied({Permission.POWER})
CONSOLE = with_implied({Permission.CONSOLE})
VMIDS = st.integers(5000, 5005)


@given(st.dictionaries(VMIDS, st.integers(1, 3)), st.dictionaries(VMIDS, st.sampled_from([POWER, CONSOLE])))
def test_the_body_is_ones_own_and_then_what_others_share(
    owners: dict[int, int], shared: dict[int, frozenset[Permission]]
) -> None:
    projection = Projection(lambda: NOW)
    for vmid, owner_id in owners.items():
        projection.add(a_row(vmid, owner_id=owner_id))
    others = {vmid: held for vmid, held in shared.items() if owners.get(vmid) != 1}
    body = orjson.loads(projection.servers_json(Sight(1, others)))
    seen = {vmid: held for vmid, held in others.items() if vmid in owners}
    own = sorted(vmid for vmid, owner_id in owners.items() if owner_id == 1)
    assert [int(server["id"]) for server in body["servers"]] == own + sorted(seen)
    names = {POWER: ["power"], CONSOLE: ["watch", "console"]}
    assert body.get("shared", {}) == {str(vmid): names[held] for vmid, held in seen.items()}
    assert ("shared" in body) is bool(seen)


def test_a_body_with_shares_is_never_stale_and_owners_bodies_stay_as_they_are() -> None:
    now = NOW
    projection = Projection(lambda: now)
    projection.add(a_row(5001, owner_id=1))
    theirs = projection.add(a_row(5002, owner_id=2))
    sight = Sight(1, {5002: POWER})
    own = projection.servers_json(Sight(1))
    before = projection.servers_json(sight)
    assert projection.servers_json(Sight(1)) is own
    theirs.observe_host(HostObservation())
    theirs.set_row(a_row(5002, owner_id=2, name="renamed"))
    assert b"renamed" in projection.servers_json(sight) != before
    assert projection.servers_json(Sight(1)) is own
    projection.remove(5002)
    assert projection.servers_json(sight) == own


async def test_what_is_shared_is_followed_from_the_moment_that_it_is(autojump_clock: MockClock) -> None:
    projection = Projection(lambda: NOW)
    theirs, other = projection.add(a_row(5002, owner_id=8)), projection.add(a_row(5003, owner_id=9))
    with trio.fail_after(100):
        async with projection.changes(Sight(7)) as changes:
            changes.share({5002: POWER})
            assert await anext(changes) == {5002}
            theirs.observe_host(HostObservation())
            other.observe_host(HostObservation())
            assert await anext(changes) == {5002}
            changes.share({5002: CONSOLE, 5003: POWER})
            assert await anext(changes) == {5002, 5003}
            changes.share({5003: POWER})
            assert await anext(changes) == {5002}
            with trio.move_on_after(60):
                theirs.observe_host(HostObservation())
                changes.share({5003: POWER})
                pytest.fail(f"told of {await anext(changes)}")
