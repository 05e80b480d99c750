"""The wire under fire: any bytes from the peer are an answer or a driver error."""

from __future__ import annotations

import socket
import struct

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.drivers.agent.peers import Peer, answering, ok
from zlh.drivers.agent import AgentClient
from zlh.drivers.agent.wire import Connection, ResponseReader, connect
from zlh.drivers.errors import DriverError, Invalid, Refused, Unreachable

PIECES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.0 503 x\r\n",
        b"HTTP/2.0 200 OK\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 99999999\r\n",
        b"Content-Length: 999999999999999999999999\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
        b"Connection: close\r\n",
        b"\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"ffffffffff\r\n",
        b"{}",
        b"\0",
    ]
)


@given(chunks=st.lists(st.lists(PIECES, max_size=6).map(b"".join) | st.binary(max_size=200), max_size=6))
def test_any_bytes_end_in_an_answer_or_invalid(chunks):
    reader = ResponseReader()
    reader.begin(1000)
    for chunk in chunks:
        try:
            reader.feed(chunk)
        except Invalid:
            return
        if reader.complete:
            assert 200 <= reader.answer().status <= 599
            assert len(reader.answer().body) <= 1000
            return


@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(1, 60), max_size=30), chunked=st.booleans())
def test_however_an_answer_is_cut_it_is_the_same(body, cuts, chunked):
    if chunked:
        whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        whole += (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    else:
        whole = ok(body)
    reader = ResponseReader()
    reader.begin(1000)
    for cut in cuts:
        reader.feed(whole[:cut])
        whole = whole[cut:]
        if not whole:
            break
    if whole:
        reader.feed(whole)
    assert reader.complete
    assert reader.reusable
    assert reader.answer().body == body


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ok(b"x" * 70_000), "answered 70000 bytes, 65536 allowed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b"x" * 0x8000 + b"\r\n8000\r\n"
         + b"x" * 0x8000 + b"\r\n8000\r\n" + b"x" * 0x8000, "answered more than 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"e" * 700_000, "more framing than content"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 90_000, "head of more than"),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", "without saying how long"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "status 101"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "status 100"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", "HTTP"),
        (ok(b"\xff\xfe"), "not JSON"),
    ],
)  # fmt: skip
async def test_a_bad_answer_is_invalid_with_its_reason(nursery, answer, reason):
    peer = await nursery.start(Peer(answering(answer)).run)
    client = AgentClient("127.0.0.1", peer.port, "t")
    with trio.fail_after(5), pytest.raises(Invalid, match=reason):
        await client.status()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 2", "in the middle of its answer"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"ok": true}', "in the middle of its answer"),
    ],
)
async def test_half_an_answer_is_unreachable(nursery, answer, reason):
    peer = await nursery.start(Peer(answering(answer)).run)
    with trio.fail_after(5), pytest.raises(Unreachable, match=reason) as caught:
        await AgentClient("127.0.0.1", peer.port, "t").health()
    assert not caught.value.may_have_happened


async def test_a_mutation_without_an_answer_may_have_happened(nursery):
    peer = await nursery.start(Peer(answering(b"")).run)
    with trio.fail_after(5), pytest.raises(Unreachable) as caught:
        await AgentClient("127.0.0.1", peer.port, "t").start()
    assert caught.value.may_have_happened
    assert peer.connections == 1


async def test_a_mutation_that_never_left_did_not_happen():
    with pytest.raises(Unreachable, match="refused the connection") as caught:
        await AgentClient("127.0.0.1", 1, "t").start()
    assert not caught.value.may_have_happened


async def test_a_redirect_is_refused_and_not_followed(nursery):
    there = await nursery.start(Peer(answering(ok())).run)
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/health\r\nContent-Length: 0\r\n\r\n" % there.port
    here = await nursery.start(Peer(answering(moved)).run)
    with trio.fail_after(5), pytest.raises(Refused) as caught:
        await AgentClient("127.0.0.1", here.port, "t").health()
    assert caught.value.status == 302
    assert there.connections == 0


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1:80", "", "127.0.0.1\r\nHost: x", "http://127.0.0.1"])
def test_only_an_address_is_an_address(address):
    with pytest.raises(Invalid):
        AgentClient(address, 18888, "t")


@pytest.mark.parametrize("token", ["a\r\nX: y", "a b", "ä"])
def test_a_token_cannot_add_a_header(token):
    with pytest.raises(Invalid):
        AgentClient("127.0.0.1", 18888, token)


async def test_one_connection_serves_many_polls(nursery):
    peer = await nursery.start(Peer(answering(*[ok()] * 10)).run)
    client = AgentClient("127.0.0.1", peer.port, "t")
    with trio.fail_after(5):
        for _ in range(10):
            await client.health()
    assert peer.connections == 1


async def test_a_kept_connection_that_broke_is_replaced_silently(nursery):
    peer = await nursery.start(Peer(answering(ok(), ok())).run)
    client = AgentClient("127.0.0.1", peer.port, "t")
    with trio.fail_after(5):
        for _ in range(6):
            await client.health()
    assert peer.connections == 3


async def test_a_get_that_breaks_on_a_kept_connection_is_sent_once_more(nursery):
    # The peer takes the second request and then resets, so that nothing can be seen beforehand.
    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(ok())
        await stream.receive_some()

    peer = await nursery.start(Peer(talk).run)
    client = AgentClient("127.0.0.1", peer.port, "t")
    with trio.fail_after(5):
        await client.health()
        await client.health()
        assert peer.connections == 2
        with pytest.raises(Unreachable, match="/start: closed the connection without an answer"):
            await client.start()
    assert peer.connections == 2


async def test_what_nobody_asked_for_is_never_taken_for_an_answer(nursery):
    lie = ok(b'{"state": "running"}')
    peer = await nursery.start(Peer(answering(ok() + lie, ok())).run)
    client = AgentClient("127.0.0.1", peer.port, "t")
    with trio.fail_after(5):
        await client.health()
        with pytest.raises(DriverError):
            await client.status()
    assert peer.connections == 2


async def test_a_late_extra_answer_ends_the_connection(nursery):
    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(ok())
        await trio.sleep(0.02)
        await stream.send_all(ok(b'{"state": "running"}'))
        late.set()
        await stream.receive_some()

    late = trio.Event()
    peer = await nursery.start(Peer(talk).run)
    client = AgentClient("127.0.0.1", peer.port, "t")
    with trio.fail_after(5):
        await client.health()
        await late.wait()
        with pytest.raises(Invalid, match="`state` is missing"):
            await client.status()
    assert peer.connections == 2


async def test_a_cancelled_request_closes_its_connection(nursery):
    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        assert await stream.receive_some() == b""
        ended.set()

    ended = trio.Event()
    peer = await nursery.start(Peer(talk).run)
    client = AgentClient("127.0.0.1", peer.port, "t")
    with trio.move_on_after(0.05) as scope:
        await client.status()
    assert scope.cancelled_caught
    with trio.fail_after(5):
        await ended.wait()


async def test_connection_close_is_obeyed(nursery):
    closing = ok(head=b"HTTP/1.1 200 OK\r\nConnection: close")
    peer = await nursery.start(Peer(answering(closing, closing)).run)
    client = AgentClient("127.0.0.1", peer.port, "t")
    with trio.fail_after(5):
        await client.health()
        await client.health()
    assert peer.connections == 2


async def test_a_kept_connection_that_was_reset_is_replaced_silently(nursery):
    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(ok())
        # Closing with a linger time of zero sends a reset.
        stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()
        reset.set()

    reset = trio.Event()
    peer = await nursery.start(Peer(talk).run)
    client = AgentClient("127.0.0.1", peer.port, "t")
    with trio.fail_after(5):
        await client.health()
        await reset.wait()
        await client.health()
    assert peer.connections == 2


async def test_an_exchange_that_did_not_end_well_closes_its_socket(nursery):
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    peer = await nursery.start(Peer(silent).run)
    connection = Connection(await connect(socket.AF_INET, ("127.0.0.1", peer.port)))
    with trio.move_on_after(0.05):
        await connection.exchange(b"GET", 100)
    assert not connection.idle

    peer = await nursery.start(Peer(answering(b"nonsense")).run)
    connection = Connection(await connect(socket.AF_INET, ("127.0.0.1", peer.port)))
    with trio.fail_after(5), pytest.raises(Invalid):
        await connection.exchange(b"GET", 100)
    assert not connection.idle


async def test_a_mutation_with_a_bad_answer_may_have_happened(nursery):
    peer = await nursery.start(Peer(answering(b"nonsense")).run)
    with trio.fail_after(5), pytest.raises(Invalid) as caught:
        await AgentClient("127.0.0.1", peer.port, "t").start()
    assert caught.value.may_have_happened
