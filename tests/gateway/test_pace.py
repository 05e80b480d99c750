"""Who sends tiny chunks is read slowly, and nobody else waits for that."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.gateway.ide import guest, open_scene
from zlh.gateway.pace import FIRST, LEAST, MANY, REST_SECONDS, Pace
from zlh.wire.chunked import LAST_CHUNK, ChunkedDecoder, chunk


async def test_few_lines_are_read_at_once_and_many_in_small_pieces(autojump_clock: MockClock) -> None:
    pace = Pace(1 << 20)
    assert pace.size == FIRST
    began = trio.current_time()
    await pace.rest(MANY)
    assert (pace.size, trio.current_time()) == (1 << 20, began)
    await pace.rest(10 * MANY)
    assert pace.size == LEAST
    assert trio.current_time() - began >= 10 * MANY * REST_SECONDS
    await pace.rest(2)
    assert pace.size == 1 << 20


def test_lines_are_counted_anew_for_each_piece() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(chunk(b"x") * 100)
    assert decoder.lines == 200
    decoder.feed(chunk(b"x" * 100))
    assert decoder.lines == 2


async def test_a_body_of_tiny_chunks_arrives_whole() -> None:
    """Also one that its sender had written before anybody read, and with the next answer right behind it."""
    many = 4 * FIRST

    async def tiny(stream: trio.SocketStream) -> None:
        for _ in range(2):
            await stream.receive_some(65536)
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            await stream.send_all(head + chunk(b"x") * many + LAST_CHUNK)

    async with open_scene() as scene, guest(scene) as peer:
        scene.program.handler = tiny
        for _ in range(2):
            assert (await peer.ask("GET", "/")).body == b"x" * many
        assert scene.program.connections == 1


async def test_a_request_of_tiny_chunks_is_not_worth_its_while() -> None:
    async with open_scene() as scene, guest(scene, host="api.test", cookie="") as peer:
        lines = ["POST /some HTTP/1.1", f"Host: {peer.host}", "Transfer-Encoding: chunked", "", ""]
        await peer.send("\r\n".join(lines).encode() + chunk(b"x") * 100_000)
        assert (await peer.answer("POST")).status == 413
