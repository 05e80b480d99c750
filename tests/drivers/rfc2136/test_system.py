"""What is this driver's own: marks in the zone, updates that require what was seen, keys, a server that goes away."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from tests.drivers.dns_contract import (
    GAME,
    INSTALLATION,
    SERVICE,
    SRV,
    ZONE,
    A,
    add,
    instead,
    looked,
    make,
    remove,
    rows,
)
from tests.drivers.rfc2136.knot import HOST, KEY, OTHER_SECRET, READER, SECRET, Knot, KnotFarEnd
from zlh.drivers.errors import Invalid, Refused, Unreachable
from zlh.drivers.rfc2136 import Rfc2136, Server, tsig_key, wire
from zlh.model.edge import Entry, Found

LONG = f"_minecraft._tcp.{'a' * 60}.{'b' * 60}.{'c' * 60}.{ZONE}"


async def test_a_mark_goes_with_each_record(far: KnotFarEnd) -> None:
    await make(far, A, SRV)
    marks = [f"zlh/{INSTALLATION} vmid=5001 A 10.0.0.5", f"zlh/{INSTALLATION} vmid=5001 SRV {SRV.value}"]
    assert sorted(await far.marks()) == marks
    await far.system.apply([remove(A), remove(SRV)])
    assert far.knot.records() == []


async def test_a_mark_longer_than_a_string_of_dns(far: KnotFarEnd) -> None:
    long = Entry(999_999_999, "SRV", LONG, f"0 0 25565 {LONG.partition('_tcp.')[2]}", 60)
    await make(far, long)
    assert await looked(far) == await looked(far, LONG) == {Found(long, True)}
    assert await far.system.apply([remove(long)]) == [None]
    assert far.knot.records() == []


async def test_a_name_without_room_for_a_mark_is_refused(far: KnotFarEnd) -> None:
    name = f"{'.'.join(['a' * 60] * 3)}.{'b' * 58}.{ZONE}"
    assert len(name) > 248
    (answer,) = await far.system.apply([add(replace(A, name=name))])
    assert answer == "its name leaves no room for our mark"
    assert await looked(far, name) == set()


async def test_another_installations_records_are_a_strangers(far: KnotFarEnd) -> None:
    other = Rfc2136(far.knot.server, ZONE, "there")
    await other.apply([add(A)])
    assert await looked(far) == await looked(far, GAME) == {Found(replace(A, vmid=0), False)}
    (answer,) = await far.system.apply([add(replace(A, value="10.0.0.7"))])
    assert answer
    (answer,) = await far.system.apply([remove(A)])
    assert answer
    assert set(await other.look(None)) == {Found(A, True)}


async def test_what_lost_its_mark_is_not_removed(far: KnotFarEnd) -> None:
    await make(far, A)
    far.knot.update(delete=True, kind="TXT", name=f"_zlh.{GAME}", value=f'"zlh/{INSTALLATION} vmid=5001 A 10.0.0.5"')
    (answer,) = await far.system.apply([remove(A)])
    assert answer == f"{A} does not bear our mark any more"
    assert await far.rows() == rows(A)


async def test_a_mark_whose_record_was_taken_away_is_found_and_mended(far: KnotFarEnd) -> None:
    await make(far, A)
    far.knot.update(delete=True, kind="A", name=GAME, value=A.value)
    bare = replace(A, ttl=0)
    assert await looked(far) == await looked(far, GAME) == {Found(bare, True)}
    assert await far.system.apply([instead(bare, A)]) == [None]
    assert await looked(far) == {Found(A, True)}
    far.knot.update(delete=True, kind="A", name=GAME, value=A.value)
    assert await far.system.apply([remove(A)]) == [None]
    assert far.knot.records() == []


async def test_what_others_write_beside_our_marks_does_no_harm(far: KnotFarEnd) -> None:
    texts = [
        "words",
        f"zlh/{INSTALLATION} vmid=7 MX nonsense",
        f"zlh/{INSTALLATION} vmid=7 A nonsense",
        "zlh/",
        "\\255",
    ]
    for text in texts:
        far.knot.update(kind="TXT", name=f"_zlh.{GAME}", value=f'"{text}"')
    before = far.knot.records()
    await make(far, A)
    assert await looked(far) == await looked(far, GAME) == {Found(A, True)}
    assert await far.system.apply([remove(A)]) == [None]
    assert sorted(far.knot.records()) == sorted(before)


@pytest.mark.parametrize("names", [None, {GAME}])
async def test_a_stranger_between_look_and_apply_is_not_run_over(far: KnotFarEnd, names: set[str] | None) -> None:
    """Whatever was seen: the server holds it against what is there at that moment."""
    await far.system.look(names)
    await far.put("A", GAME, "192.0.2.1")
    (answer,) = await far.system.apply([add(A)])
    assert answer == f"A {GAME} 192.0.2.1 is somebody else's there"
    await far.system.look(names)
    await far.put("AAAA", GAME, "2001:db8::1")
    far.knot.update(delete=True, kind="A", name=GAME, value="192.0.2.1")
    assert await far.system.apply([add(A)]) == [None], "another type at the same name is no harm"


async def test_a_stranger_beside_ours_between_look_and_apply(far: KnotFarEnd) -> None:
    await make(far, A)
    await far.system.look({GAME})
    await far.put("A", GAME, "192.0.2.1")
    (answer,) = await far.system.apply([instead(A, replace(A, value="10.0.9.9"))])
    assert answer
    assert await far.rows() == {("A", GAME, "192.0.2.1", 300), ("A", GAME, A.value, 300)}
    await far.system.look({GAME})
    assert await far.system.apply([remove(A)]) == [None]
    assert await far.rows() == {("A", GAME, "192.0.2.1", 300)}


async def test_below_a_name_that_leads_elsewhere_nothing_is_made(far: KnotFarEnd) -> None:
    await far.put("NS", GAME, f"ns.elsewhere.{ZONE}")
    answers = await far.system.apply([add(A), add(SRV)])
    assert all(answer and "leads elsewhere" in answer for answer in answers)
    assert await looked(far, GAME, SERVICE) == set()


async def test_names_outside_the_zone_are_refused_and_not_asked_for(far: KnotFarEnd) -> None:
    elsewhere = replace(A, name="ct-5001.zlh.example")
    assert await far.system.apply([add(elsewhere), add(A)]) == ["it is not inside the zone", None]
    assert await looked(far, elsewhere.name, GAME) == {Found(A, True)}


@pytest.fixture
def wildcards(tmp_path: Path) -> Iterator[KnotFarEnd]:
    knot = Knot(tmp_path, "* 300 IN A 192.0.2.80\n* 300 IN TXT words\n*.alias 300 IN CNAME other\n")
    knot.start()
    yield KnotFarEnd(knot)
    knot.stop()


async def test_a_wildcard_is_not_at_the_names_it_answers_for(wildcards: KnotFarEnd) -> None:
    far, aliased = wildcards, replace(A, name=f"ct-5003.alias.{ZONE}")
    await far.system.look(None)
    assert await looked(far, GAME, aliased.name) == set()
    await make(far, A, aliased)
    assert await looked(far, GAME, aliased.name) == {Found(A, True), Found(aliased, True)}
    await far.put("A", f"www.{ZONE}", "192.0.2.80")
    (answer,) = await far.system.apply([add(replace(A, name=f"www.{ZONE}"))])
    assert answer, "what somebody else has there looks like the wildcard, and is not run over all the same"


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(tsig_key("ours", OTHER_SECRET, "hmac-sha256"), id="another secret"),
        pytest.param(tsig_key("nobody", SECRET, "hmac-sha256"), id="another name"),
        pytest.param(READER, id="without rights"),
    ],
)
async def test_a_key_that_may_not(knot: Knot, key: object) -> None:
    system = Rfc2136(Server(HOST, knot.port, key), ZONE, INSTALLATION)  # type: ignore[arg-type]
    with pytest.raises(Refused) as refused:
        await system.look(None)
    assert SECRET not in str(refused.value)
    assert OTHER_SECRET not in str(refused.value)
    with pytest.raises(Refused):
        await system.apply([add(A)])
    assert knot.records() == []


async def test_a_zone_of_another_server(knot: Knot) -> None:
    system = Rfc2136(knot.server, "zlh.example", INSTALLATION)
    with pytest.raises(Refused):
        await system.look(None)


def test_a_key_that_is_none_is_said_without_it() -> None:
    for name, secret in (("ours", "not base64!"), ("a..b", SECRET)):
        with pytest.raises(ValueError) as caught:
            tsig_key(name, secret, "hmac-sha256")
        assert secret not in str(caught.value)


async def test_a_server_that_was_away(far: KnotFarEnd) -> None:
    await make(far, A)
    far.knot.stop()
    with pytest.raises(Unreachable):
        await far.system.look(None)
    with pytest.raises(Unreachable):
        await far.system.apply([remove(A)])
    far.knot.start()
    assert await looked(far) == {Found(A, True)}
    assert await far.system.apply([remove(A)]) == [None]


async def test_a_server_that_dies_between_two_changes_loses_none_of_them(far: KnotFarEnd) -> None:
    await make(far, A)
    far.knot.stop(kill=True)
    with pytest.raises(Unreachable):
        await far.system.apply([add(SRV)])
    far.knot.start()
    await make(far, SRV)
    assert await looked(far) == {Found(A, True), Found(SRV, True)}


async def test_a_server_that_hangs(far: KnotFarEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ANSWER_SECONDS", 0.2)
    far.knot.freeze(signal.SIGSTOP)
    try:
        with pytest.raises(Unreachable) as caught:
            await far.system.apply([add(A)])
    finally:
        far.knot.freeze(signal.SIGCONT)
    assert "no answer within" in caught.value.message


async def test_ten_thousand_foreign_records_hold_nobody_up(tmp_path: Path) -> None:
    lines = [f"host-{n} 300 IN A 192.0.2.{n % 250}\n" for n in range(10_000)]
    knot = Knot(tmp_path, "".join(lines))
    knot.start()
    far, beats = KnotFarEnd(knot), 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await trio.sleep(0.001)
            beats += 1

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beat)
            await make(far, A)
            found = await far.system.look(None)
            nursery.cancel_scope.cancel()
        assert len(found) == 10_001
        assert [one for one in found if one.mine] == [Found(A, True)]
        assert beats > 10
        assert await looked(far, GAME) == {Found(A, True)}
    finally:
        knot.stop()


class Liar:
    """Answers each message with what `answer` makes of it."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    async def __call__(self, stream: trio.SocketStream) -> None:
        async with stream:
            data = await stream.receive_some()
            if data:
                await stream.send_all(self.answer(bytes(data)))  # type: ignore[operator]


def _unsigned(data: bytes) -> bytes:
    """Yes to everything, without a signature."""
    body = data[2:4] + bytes([data[4] | 0x84, 0]) + bytes([0] * 8)
    return len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(_unsigned, Invalid, id="unsigned"),
        pytest.param(lambda data: data, Invalid, id="our own question"),
        pytest.param(lambda _data: b"\0\4abcd", Invalid, id="noise"),
        pytest.param(lambda _data: b"", Unreachable, id="nothing"),
        pytest.param(lambda data: b"\xff\xff" + data, Unreachable, id="cut off"),
    ],
)
async def test_lies_are_not_believed(answer: object, error: type[Exception]) -> None:
    listeners = await trio.open_tcp_listeners(0, host=HOST)
    port = listeners[0].socket.getsockname()[1]
    system = Rfc2136(Server(HOST, port, KEY), ZONE, INSTALLATION)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, Liar(answer), listeners)
        for call in (lambda: system.look(None), lambda: system.apply([add(A)])):
            with pytest.raises(error):
                await call()
        nursery.cancel_scope.cancel()
