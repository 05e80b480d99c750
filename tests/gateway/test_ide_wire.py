"""HTTP through the door to IDEs, byte by byte: nothing can be smuggled, and everything of HTTP/1.1 arrives."""

from __future__ import annotations

import pytest
import trio

from tests.gateway.ide import HOST, guest, open_scene
from tests.gateway.peer import until
from zlh.wire.http import RequestHead

PASS = f"Host: {HOST}\r\nCookie: zlh-pass=good\r\n"
SECOND = f"GET /smuggled HTTP/1.1\r\n{PASS}\r\n"


def request(*lines: str, body: str = "", start: str = "POST /first HTTP/1.1") -> bytes:
    return (f"{start}\r\n{PASS}" + "".join(f"{line}\r\n" for line in lines) + "\r\n" + body).encode("latin1")


SMUGGLED = {
    "CL.TE": request("Content-Length: 6", "Transfer-Encoding: chunked", body="0\r\n\r\n" + SECOND),
    "TE.CL": request("Transfer-Encoding: chunked", "Content-Length: 4", body="5c\r\n" + SECOND + "\r\n0\r\n\r\n"),
    "two lengths": request("Content-Length: 0", f"Content-Length: {len(SECOND)}", body=SECOND),
    "the same length twice": request("Content-Length: 5", "Content-Length: 5", body="12345"),
    "lengths in a list": request("Content-Length: 5, 5", body="12345"),
    "a signed length": request("Content-Length: +5", body="12345"),
    "a negative length": request("Content-Length: -1", body=SECOND),
    "a hexadecimal length": request("Content-Length: 0x5", body="12345"),
    "a length with a blank": request("Content-Length: 5 0", body="12345"),
    "no length": request("Content-Length:", body="12345"),
    "an endless length": request("Content-Length: " + "9" * 40, body="12345"),
    "a blank before the colon": request("Transfer-Encoding : chunked", body="0\r\n\r\n" + SECOND),
    "a coding behind another": request("Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"),
    "a coding twice": request("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body="0\r\n\r\n"),
    "a coding that is nearly one": request("Transfer-Encoding: xchunked", body="0\r\n\r\n"),
    "a coding with a vertical tab": request("Transfer-Encoding: \x0bchunked", body="0\r\n\r\n"),
    "a coding in a folded line": request("Transfer-Encoding:\r\n chunked", body="0\r\n\r\n"),
    "a coding in HTTP/1.0": request("Transfer-Encoding: chunked", body="0\r\n\r\n", start="POST / HTTP/1.0"),
    "a bare line feed": request("X: a\nTransfer-Encoding: chunked", body="0\r\n\r\n"),
    "a bare carriage return": request("X: a\rContent-Length: 5", body="12345"),
    "a NUL in a field": request("X: a\x00b"),
    "a field without a name": request(": x"),
    "a field with a blank in its name": request("X Y: x"),
    "two hosts": request("Host: ide-6002.ide.test"),
    "a chunk size with a sign": request("Transfer-Encoding: chunked", body="+5\r\n12345\r\n0\r\n\r\n"),
    "a chunk size with 0x": request("Transfer-Encoding: chunked", body="0x5\r\n12345\r\n0\r\n\r\n"),
    "a chunk that is too long": request("Transfer-Encoding: chunked", body="3\r\n12345\r\n0\r\n\r\n"),
    "a chunk with a bare line feed": request("Transfer-Encoding: chunked", body="5\n12345\n0\n\n"),
    "a chunk size that overflows": request("Transfer-Encoding: chunked", body="ffffffffffffffff1\r\n1"),
    "a trailer that is a head": request("Transfer-Encoding: chunked", body="0\r\nGET / HTTP/1.1\r\n\r\n"),
    "absolute form": request(start=f"GET http://{HOST}/first HTTP/1.1"),
    "absolute form to elsewhere": request(start="GET http://169.254.169.254/latest HTTP/1.1"),
    "authority form": request(start="CONNECT 10.0.0.1:22 HTTP/1.1"),
    "two slashes": request(start="GET //10.0.0.1/x HTTP/1.1"),
    "a blank in the target": request(start="GET /first /second HTTP/1.1"),
    "a tab in the target": request(start="GET /first\tHTTP/1.1 HTTP/1.1"),
    "a fragment in the target": request(start="GET /first#x HTTP/1.1"),
    "another version": request(start="GET / HTTP/1.2"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a method in small letters": request(start="get / HTTP/1.1"),
    "TRACE": request(start="TRACE / HTTP/1.1"),
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_what_can_be_read_in_two_ways_is_refused(name: str) -> None:
    async with open_scene() as scene, guest(scene) as peer:
        await peer.send(SMUGGLED[name])
        answer = await peer.answer()
        assert 400 <= answer.status < 506
        assert answer.field("connection") == "close"
        assert await peer.closed()
        assert b"HTTP/1.1" not in peer.buffer, "one answer, and no other"
        # A head that was good until its body went wrong has been passed on: its connection is of no more use.
        assert all(head.target == b"/first" for head in scene.program.heads)
        await until(lambda: scene.gateway.stats().upstream_connections == 0)


@pytest.mark.parametrize("field", ["Content-Length", "Transfer-Encoding", "Host", "Cookie"])
async def test_a_field_cannot_be_taken_away_by_naming_it_in_connection(field: str) -> None:
    async with open_scene() as scene, guest(scene) as peer:
        await peer.send(request(f"Connection: {field}", "Content-Length: 5", body="12345"))
        answer = await peer.answer()
        assert (answer.status, answer.json["body"]) == (200, 5)
        assert (await peer.ask("GET", "/second")).json["target"] == "/second"


ANSWERS = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a length and a coding": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a malformed length": b"HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\na",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a bare line feed": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "a switch that nobody asked for": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    "a NUL": b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
    "no end of heads": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-",
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_malformed_answer_is_a_502_and_its_connection_gone(name: str) -> None:
    async def liar(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(ANSWERS[name])

    async with open_scene() as scene, guest(scene) as peer:
        scene.program.handler = liar
        assert (await peer.ask("GET", "/")).status == 502
        await until(lambda: scene.gateway.stats().upstream_connections == 0)


async def test_what_comes_after_an_answer_is_nobodys() -> None:
    """An answer that was not asked for would be taken for the next visitor's."""

    def doubled(head: RequestHead, body: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

    async with open_scene() as scene, guest(scene) as peer:
        scene.program.answer = doubled
        for _ in range(3):
            assert (await peer.ask("GET", "/")).body == b"ok"
        assert scene.program.connections == 3


async def test_connections_are_kept_for_the_same_container_only() -> None:
    async with open_scene() as scene:
        for _ in range(3):
            async with guest(scene) as peer:
                for _ in range(3):
                    assert (await peer.ask("GET", "/")).status == 200
        assert scene.program.connections == 1
        # The same address, but another container: what the first one left open is not for it.
        pool = scene.gateway._pool
        assert {destination.group for destination in pool._idle} == {6001}  # type: ignore[union-attr]


async def test_bodies_of_every_kind() -> None:
    async with open_scene() as scene, guest(scene) as peer:
        assert (await peer.ask("PUT", "/", body=b"x" * 300_000)).json["body"] == 300_000
        await peer.send(
            request("Transfer-Encoding: chunked", body="5;ext=1\r\nhello\r\n3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n")
        )
        answer = await peer.answer()
        assert answer.json["body"] == 8
        assert dict(answer.json["fields"])["transfer-encoding"] == "chunked"
        assert "trailer" not in dict(answer.json["fields"])
        await peer.send(request("Expect: 100-continue", "Content-Length: 5"))
        assert (await peer.read_head()).status == 100
        await peer.send(b"12345")
        assert (await peer.answer()).json["body"] == 5


BODYLESS = {
    "HEAD": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 200, "1000"),
    "GET 204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, None),
    "GET 304": (b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 77\r\n\r\n', 304, "77"),
}


@pytest.mark.parametrize("name", BODYLESS)
async def test_answers_without_a_body(name: str) -> None:
    raw, status, length = BODYLESS[name]
    async with open_scene() as scene, guest(scene) as peer:
        scene.program.answer = lambda head, body: raw
        for _ in range(2):
            answer = await peer.ask(name.split()[0], "/")
            assert (answer.status, answer.field("content-length"), answer.body) == (status, length, b"")
        assert scene.program.connections == 1


async def test_answers_of_unknown_length() -> None:
    async with open_scene() as scene, guest(scene) as peer:
        scene.program.answer = lambda head, body: (
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
            b"Trailer: Digest\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nDigest: z\r\n\r\n"
        )
        for _ in range(2):
            assert (await peer.ask("GET", "/")).body == b"abcdefg"
        assert scene.program.connections == 1

        async def until_closed(stream: trio.SocketStream) -> None:
            await stream.receive_some(65536)
            await stream.send_all(b"HTTP/1.0 200 OK\r\n\r\nto the end")

        scene.program.handler = until_closed
    async with open_scene() as scene, guest(scene) as peer:
        scene.program.handler = until_closed
        assert (await peer.ask("GET", "/")).body == b"to the end"


async def test_an_early_answer_can_be_read() -> None:
    async def impatient(stream: trio.SocketStream) -> None:
        await stream.receive_some(100)
        await stream.send_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!")
        await trio.sleep_forever()

    async with open_scene() as scene, guest(scene) as peer:
        scene.program.handler = impatient
        await peer.send(request("Content-Length: 10000000", body="x" * 1000))
        await until(lambda: scene.program.connections == 1)
        await until(lambda: scene.gateway.stats().upstream_connections == 0)
        # The client has not looked yet, and goes on with what it was about to say.
        await peer.send(b"x" * 500_000)
        answer = await peer.answer()
        assert (answer.status, answer.body, answer.field("connection")) == (413, b"no!", "close")


async def test_an_answer_that_breaks_off_closes_the_client() -> None:
    async def half(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    async with open_scene() as scene, guest(scene) as peer:
        scene.program.handler = half
        await peer.send(f"GET / HTTP/1.1\r\n{PASS}\r\n".encode())
        assert (await peer.read_head()).length == 100
        assert await peer.closed()
        assert peer.buffer == b"half"
