"""The driver of the Velocity bridge, against a bridge that keeps state."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.edge.bridge import LOBBY, SECRET, Proxy, open_proxy
from zlh.drivers import velocity
from zlh.drivers.errors import DriverError, Invalid, NotFound, Refused, Unreachable
from zlh.drivers.velocity import VelocityBridge, parse_servers
from zlh.model.edge import Change, Entry, Found, Verb, endpoint


@pytest.fixture(params=["plain", "strict", "wrapped"])
async def proxy(request: pytest.FixtureRequest) -> AsyncIterator[Proxy]:
    async with open_proxy(strict=request.param == "strict", wrapped=request.param == "wrapped") as proxy:
        yield proxy


def server(name: str, value: str, vmid: int = 0) -> Entry:
    return Entry(vmid, "server", name, value)


SMP = server("smp", "10.0.0.1:25565", 5001)


def add(entry: Entry) -> Change:
    return Change(Verb.ADD, entry, "it is missing")


def replaced(before: Entry, entry: Entry) -> Change:
    return Change(Verb.REPLACE, entry, "it was another", before=before)


def remove(entry: Entry) -> Change:
    return Change(Verb.REMOVE, entry, "it is not wanted")


async def test_what_is_registered_is_seen_and_goes(proxy: Proxy) -> None:
    bridge = proxy.bridge
    assert await bridge.apply([add(SMP)]) == [None]
    assert proxy.far.registered == {"smp": ("10.0.0.1", 25565)}
    assert await bridge.look(["smp"]) == [Found(server("smp", "10.0.0.1:25565"), None)]
    assert {found.entry.name for found in await bridge.look(None)} == {"smp", "lobby"}
    assert await bridge.apply([remove(SMP)]) == [None]
    assert await bridge.look(["smp"]) == []
    assert await bridge.apply([remove(SMP)]) == [None], "gone is gone"
    assert proxy.far.servers == LOBBY


async def test_another_address_takes_the_place_of_the_one_before(proxy: Proxy) -> None:
    moved = server("smp", "10.0.0.2:25566", 5001)
    await proxy.bridge.apply([add(SMP)])
    assert await proxy.bridge.apply([replaced(SMP, moved)]) == [None]
    assert proxy.far.registered == {"smp": ("10.0.0.2", 25566)}


async def test_addresses_of_both_versions(proxy: Proxy) -> None:
    six = server("six", endpoint("2001:DB8:0:0::1", 25565), 5001)
    assert six.value == "[2001:db8::1]:25565"
    await proxy.bridge.apply([add(six)])
    assert proxy.far.registered == {"six": ("2001:db8::1", 25565)}
    # As Java writes it.
    proxy.far.servers["six"] = ("2001:db8:0:0:0:0:0:1", 25565)
    assert [found.entry.value for found in await proxy.bridge.look(["six"])] == [six.value]


async def test_what_is_somebody_elses_by_now_is_left_alone(proxy: Proxy) -> None:
    theirs = ("192.0.2.9", 1)
    proxy.far.servers["smp"] = theirs
    (problem,) = await proxy.bridge.apply([add(SMP)])
    assert "somebody else's" in str(problem)
    (problem,) = await proxy.bridge.apply([replaced(SMP, server("smp", "10.0.0.2:1", 5001))])
    assert "somebody else's" in str(problem)
    assert await proxy.bridge.apply([remove(SMP)]) == [None], "ours is not there"
    assert proxy.far.servers["smp"] == theirs


async def test_names_are_the_same_in_any_case(proxy: Proxy) -> None:
    proxy.far.servers["Hub"] = ("192.0.2.9", 1)
    assert [found.entry.name for found in await proxy.bridge.look(["hub"])] == ["hub"]
    (problem,) = await proxy.bridge.apply([add(server("hub", "10.0.0.1:25565", 5001))])
    assert "somebody else's" in str(problem)


async def test_a_refusal_is_of_one_change(proxy: Proxy) -> None:
    proxy.far.faults.refuses.add("smp")
    other = server("other", "10.0.0.2:25565", 5002)
    assert await proxy.bridge.apply([add(SMP), add(other)]) == [
        "/zpack/register answered with status 422: that name is not taken",
        None,
    ]
    assert proxy.far.registered == {"other": ("10.0.0.2", 25565)}


async def test_many_in_one_batch(proxy: Proxy) -> None:
    many = [server(f"s{number}", f"10.0.0.1:{number}", number) for number in range(1, velocity.VelocityBridge.batch)]
    assert await proxy.bridge.apply([add(one) for one in many]) == [None] * len(many)
    assert {found.entry.key for found in await proxy.bridge.look(None)} >= {one.key for one in many}


def _down(proxy: Proxy) -> None:
    proxy.far.faults.down = True


def _status(status: int) -> Callable[[Proxy], None]:
    def cause(proxy: Proxy) -> None:
        proxy.far.faults.status = status

    return cause


def _half(proxy: Proxy) -> None:
    proxy.far.faults.half = True


FAULTS: dict[str, tuple[Callable[[Proxy], None], type[DriverError]]] = {
    "down": (_down, Unreachable),
    "failing": (_status(500), Unreachable),
    "busy": (_status(429), Unreachable),
    "moved": (_status(302), Unreachable),
    "nothing there": (_status(404), NotFound),
    "not our secret": (_status(401), Refused),
    "half a list": (_half, Invalid),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_fault_is_one_of_ours(proxy: Proxy, fault: str) -> None:
    cause, kind = FAULTS[fault]
    cause(proxy)
    with pytest.raises(kind) as seen:
        await proxy.bridge.look(None)
    with pytest.raises(kind):
        await proxy.bridge.apply([add(SMP)])
    assert proxy.far.servers == LOBBY
    assert SECRET not in str(seen.value)
    assert velocity.hashlib.sha256(SECRET.encode()).hexdigest() not in str(seen.value)


async def test_a_lost_answer_may_have_happened(proxy: Proxy) -> None:
    proxy.far.faults.lost = True
    with pytest.raises(Unreachable) as lost:
        await proxy.bridge.apply([add(SMP)])
    assert lost.value.may_have_happened
    proxy.far.faults.lost = False
    assert await proxy.bridge.apply([add(SMP)]) == [None], "it is there already"


async def test_a_slow_bridge_is_not_waited_for(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(velocity, "ANSWER_SECONDS", 0.1)
    proxy.far.faults.slow = 30
    with pytest.raises(Unreachable, match=r"no answer within 0\.1 s"):
        await proxy.bridge.look(None)


async def test_another_secret_is_refused(proxy: Proxy) -> None:
    stranger = VelocityBridge(proxy.url, "another")
    with pytest.raises(Refused, match="that is not the secret"):
        await stranger.apply([add(SMP)])
    await stranger.aclose()
    assert proxy.far.servers == LOBBY


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    bridge = VelocityBridge(f"http://127.0.0.1:{port}", SECRET)
    with pytest.raises(Unreachable) as refused:
        await bridge.look(None)
    assert not refused.value.may_have_happened
    await bridge.aclose()


async def test_a_list_without_end_is_not_read(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(velocity, "MAX_ANSWER_BYTES", 10)
    with pytest.raises(Invalid, match="more than 10 bytes"):
        await proxy.bridge.look(None)


GOOD = {"server_name": "a", "address": "b", "port": 1}


@pytest.mark.parametrize(
    "document",
    [
        None,
        7,
        {},
        {"servers": {}},
        ["a"],
        [GOOD, {}],
        [GOOD | {"server_name": ""}],
        [GOOD | {"server_name": 7}],
        [GOOD | {"address": None}],
        [GOOD | {"port": "25565"}],
        [GOOD | {"port": True}],
        [GOOD | {"port": 70_000}],
    ],
    ids=str,
)
def test_a_list_is_understood_as_a_whole_or_not_at_all(document: object) -> None:
    with pytest.raises(Invalid):
        parse_servers(orjson.dumps(document))


@given(
    st.binary()
    | st.recursive(st.none() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)).map(orjson.dumps)
)
def test_whatever_it_answers(body: bytes) -> None:
    try:
        assert isinstance(parse_servers(body), list)
    except Invalid:
        pass
