"""Console websockets: who gets in, what is shown in both formats, what may be typed, and how it ends."""

from __future__ import annotations

import json
import socket as sockets

import pytest
import trio

from tests.gateway.behind import FakeConsoles
from tests.gateway.peer import connect, handshake, open_socket, until
from tests.gateway.server import Running, running
from tests.stopwatch import Stopwatch
from zlh.gateway import Limits
from zlh.gateway.limits import ConsoleLimits
from zlh.model.console import Line
from zlh.wire.frames import CloseCode, FrameDecoder, Opcode, Ping, Pong, Text, client_frame, close_payload
from zlh.wire.walker import FrameLimits

PATH = "/api/servers/5001/console/stream"
GOOD = f"{PATH}?access_token=good"
JSON = f"{GOOD}&format=json"


async def viewers(server: Running, count: int) -> None:
    await until(lambda: len(server.consoles.viewers) == count)


async def test_lines_are_plain_text_and_typed_lines_are_commands() -> None:
    async with running() as server, open_socket(server.port, PATH, "Authorization: Bearer good") as socket:
        await viewers(server, 1)
        batch = server.consoles.publish("one", "two", "drei \u00e4")
        assert await socket.text() == "one\ntwo\ndrei ä"
        assert set(batch.frames) == {"text"}
        await socket.send("say hi\nlist\n\n")
        await until(lambda: server.consoles.typed == ["say hi", "list"])
        assert server.gateway.stats().websockets == 1


async def test_json_resumes_after_a_sequence_number() -> None:
    async with running() as server:
        server.consoles.history = (Line(7, 1.5, "before"),)
        async with open_socket(server.port, f"{JSON}&after=6") as socket:
            assert await socket.json() == {"seq": 7, "line": "before", "at": 1.5}
            server.consoles.publish("a", "b")
            assert await socket.json() == {"seq": 1, "line": "a", "at": 1001.0}
            assert await socket.json() == {"seq": 2, "line": "b", "at": 1002.0}
            assert server.consoles.afters == [6]
            server.consoles.viewers[0].event("state", {"upstream": "reconnecting"})
            assert await socket.json() == {"event": "state", "upstream": "reconnecting"}


async def test_the_token_may_be_the_first_message() -> None:
    async with running() as server:
        async with open_socket(server.port, f"{PATH}?after=6") as socket:
            await socket.send('{"auth": "good"}')
            await viewers(server, 1)
            assert server.consoles.afters == [6]
            server.consoles.publish("hello")
            assert await socket.text() == "hello"
        await until(lambda: server.doorkeeper.grants[0].released)
        for token, path, code in [
            ("bad", PATH, CloseCode.UNAUTHENTICATED),
            ("alien", PATH, CloseCode.FORBIDDEN),
            ("good", PATH.replace("5001", "404"), CloseCode.GONE),
            ("good", PATH.replace("5001", "410"), CloseCode.GONE),
            ("good", PATH.replace("5001", "429"), CloseCode.TRY_AGAIN),
        ]:
            async with open_socket(server.port, path) as socket:
                await socket.send(f'{{"auth": "{token}"}}')
                assert (await socket.close()).code == code
        async with open_socket(server.port, PATH) as socket:
            await socket.send("stop")
            assert (await socket.close()).code == CloseCode.UNAUTHENTICATED
        assert server.consoles.typed == []


async def test_no_token_in_time_is_closed() -> None:
    limits = Limits(console=ConsoleLimits(auth_seconds=0.3))
    async with running(limits) as server, open_socket(server.port, PATH) as socket:
        assert (await socket.close()).code == CloseCode.UNAUTHENTICATED
        assert await socket.event() is None


@pytest.mark.parametrize(
    ("target", "lines", "status", "code"),
    [
        (PATH, ["Authorization: Bearer bad"], 401, "unauthenticated"),
        (PATH, ["Authorization: Basic good"], 401, "unauthenticated"),
        (f"{PATH}?access_token=bad", [], 401, "unauthenticated"),
        (f"{PATH}?access_token=alien", [], 403, "forbidden"),
        (GOOD.replace("5001", "404"), [], 404, "not_found"),
        (f"{GOOD}&format=xml", [], 400, "invalid"),
        (f"{GOOD}&after=-1", [], 400, "invalid"),
        (GOOD, ["Origin: https://evil.example"], 403, "forbidden_origin"),
    ],
)
async def test_refusals_before_the_upgrade_are_envelopes(
    target: str, lines: list[str], status: int, code: str
) -> None:
    async with running() as server, connect(server.port) as peer:
        await peer.send(handshake(target, *lines))
        answer = await peer.answer()
        assert (answer.status, answer.json["code"]) == (status, code)
        assert await peer.closed()
        assert server.consoles.viewers == []


async def test_a_plain_request_to_a_console_goes_to_the_control_plane() -> None:
    async with running() as server, connect(server.port) as peer:
        assert (await peer.ask("GET", GOOD)).status == 404
        assert server.consoles.viewers == []


async def test_refused_commands_become_notices() -> None:
    async with running() as server:
        async with open_socket(server.port, JSON) as socket:
            # What comes after it in the same message is not typed either.
            await socket.send("say hi\nrefuse\n\nsay no")
            assert await socket.json() == {
                "event": "throttled",
                "retryAfter": 1.5,
                "lines": 2,
                "message": "slower, please",
            }
            assert server.consoles.typed == ["say hi"]
            server.consoles.typed.clear()
            await socket.send("x" * 5000)
            assert (await socket.json())["code"] == "invalid"
        async with open_socket(server.port, f"{PATH}?access_token=watcher") as socket:
            await socket.send("stop")
            assert await socket.text() == "[you may watch this console, but not type]"
        async with open_socket(server.port, JSON.replace("=good", "=watcher")) as socket:
            await socket.send("stop")
            assert (await socket.json())["code"] == "not_permitted"
        assert server.consoles.typed == []


async def test_a_bug_closes_one_viewer_with_1011() -> None:
    async with running() as server, open_socket(server.port, GOOD) as other:
        async with open_socket(server.port, GOOD) as socket:
            await socket.send("bug")
            assert (await socket.close()).code == CloseCode.INTERNAL
        await viewers(server, 1)
        server.consoles.publish("still here")
        assert await other.text() == "still here"
        assert server.gateway.stats().crashes == 1


async def test_access_that_ends_closes_at_once() -> None:
    async with running() as server, open_socket(server.port, GOOD) as socket:
        await viewers(server, 1)
        server.doorkeeper.grants[0].end(4401, "signed out")
        server.consoles.publish("secret")
        assert server.consoles.viewers == []
        closed = await socket.event()
        assert (closed.code, closed.reason) == (4401, "signed out")  # type: ignore[union-attr]
        assert await socket.event() is None


async def test_a_token_that_runs_out_is_announced_and_renewed() -> None:
    async with running() as server, open_socket(server.port, f"{PATH}?access_token=short&format=json") as socket:
        assert (await socket.json())["event"] == "token_expiring"
        await socket.send('{"auth": "bad"}')
        assert (await socket.json())["event"] == "notice"
        await socket.send('{"auth": "good"}')
        await until(lambda: len(server.doorkeeper.grants) == 2)
        assert server.doorkeeper.grants[0].released
        assert not server.doorkeeper.grants[1].released
        server.consoles.publish("on")
        assert (await socket.json())["line"] == "on"


async def test_pings_are_answered_and_sent_and_silence_is_closed() -> None:
    limits = Limits(console=ConsoleLimits(ping_seconds=1.0, pong_seconds=3.0))
    async with running(limits) as server:
        async with open_socket(server.port, GOOD) as socket:
            await socket.peer.send(client_frame(Opcode.PING, b"x"))
            assert await socket.event() == Pong(b"x")
            for _ in range(3):
                assert await socket.event() == Ping(b"")
                await socket.peer.send(client_frame(Opcode.PONG))
        async with open_socket(server.port, GOOD) as socket:
            assert await socket.event() == Ping(b"")
            assert (await socket.close()).code == CloseCode.GOING_AWAY


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (client_frame(Opcode.TEXT, b"x" * 70_000), CloseCode.TOO_BIG),
        (client_frame(Opcode.TEXT, b"x") * 100, CloseCode.POLICY),
        (client_frame(Opcode.BINARY, b"x" * 60_000) * 9, CloseCode.POLICY),
        (client_frame(Opcode.TEXT, b"\xff"), CloseCode.INVALID_PAYLOAD),
        (b"\xc1\x80\0\0\0\0", CloseCode.PROTOCOL_ERROR),
    ],
    ids=["large", "many", "much", "not UTF-8", "reserved bits"],
)
async def test_a_viewer_beyond_its_limits_is_closed(frames: bytes, code: CloseCode) -> None:
    async with running() as server, open_socket(server.port, GOOD) as socket:
        await socket.peer.send(frames)
        assert (await socket.close()).code == code
        await until(lambda: server.consoles.viewers == [])


async def test_the_clients_close_is_answered() -> None:
    async with running() as server, open_socket(server.port, GOOD) as socket:
        await socket.peer.send(client_frame(Opcode.CLOSE, close_payload(1000)))
        assert (await socket.close()).code == 1000
        assert await socket.event() is None
        await until(lambda: server.consoles.viewers == [] and server.doorkeeper.grants[0].released)


async def test_one_frame_is_built_for_many_viewers() -> None:
    async with running() as server, trio.open_nursery() as nursery:
        got: list[str] = []
        done = trio.Event()

        async def watch() -> None:
            async with open_socket(server.port, GOOD) as socket:
                got.append(await socket.text())
                await done.wait()

        for _ in range(50):
            nursery.start_soon(watch)
        await viewers(server, 50)
        batch = server.consoles.publish("to all")
        await until(lambda: got == ["to all"] * 50)
        assert len(batch.frames) == 1
        done.set()


def flood(consoles: FakeConsoles, megabytes: int) -> None:
    """As a chatty server does: batches of 100 lines of 100 bytes."""
    for _ in range(megabytes * 100):
        consoles.publish(*["x" * 100] * 100)


async def slow_socket(port: int, target: str) -> trio.socket.SocketType:
    """A viewer whose kernel buffers are small and that reads only when told to."""
    sock = trio.socket.socket(sockets.AF_INET, sockets.SOCK_STREAM)
    sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 8192)
    await sock.connect(("127.0.0.1", port))
    await sock.send(handshake(target))
    return sock


async def read_all(sock: trio.socket.SocketType, enough: bytes) -> list[str]:
    """Every text frame until one holds `enough`."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await sock.recv(4096)
    decoder = FrameDecoder(masked=False)
    texts: list[str] = []
    pending = data.partition(b"\r\n\r\n")[2]
    with trio.fail_after(60):
        while True:
            texts += [event.text for event in decoder.feed(pending) if isinstance(event, Text)]
            if any(enough.decode() in text for text in texts[-5:]):
                return texts
            pending = await sock.recv(65536)
            assert pending


@pytest.mark.parametrize("form", ["json", "text"])
async def test_a_slow_viewer_loses_its_oldest_lines_and_slows_nobody(form: str) -> None:
    # However long this takes, nobody is pinged or given up meanwhile.
    limits = Limits(console=ConsoleLimits(stuck_seconds=600, ping_seconds=600))
    async with running(limits) as server, open_socket(server.port, JSON) as fast:
        slow = await slow_socket(server.port, f"{GOOD}&format={form}")
        await viewers(server, 2)
        total = 0
        for _ in range(20):
            flood(server.consoles, 1)
            total += 10_000
            for _ in range(10_000):
                assert "line" in await fast.json()
        server.consoles.publish("the last line")
        texts = await read_all(slow, b"the last line")
        if form == "json":
            frames = [json.loads(text) for text in texts]
            dropped = sum(frame["dropped"] for frame in frames if frame.get("event") == "gap")
            seqs = [frame["seq"] for frame in frames if "seq" in frame]
            assert dropped > 0
            # Nothing is lost unannounced: shown, missing, and the last line are all there are.
            assert len(seqs) + dropped == total + 1
            assert seqs == sorted(seqs)
            assert seqs[-1] == total + 1
        else:
            gaps = [text for text in texts if text.endswith("lines are missing here]")]
            shown = sum(text.count("\n") + 1 for text in texts) - len(gaps)
            assert gaps
            assert shown + sum(int(gap[1:].split()[0]) for gap in gaps) == total + 1
        assert server.gateway.stats().lines_dropped > 0
        slow.close()


async def test_a_viewer_that_reads_nothing_is_closed() -> None:
    limits = Limits(console=ConsoleLimits(stuck_seconds=2.5), close_seconds=0.3)
    async with running(limits) as server, open_socket(server.port, GOOD) as fast:
        slow = await slow_socket(server.port, GOOD)
        await viewers(server, 2)
        flood(server.consoles, 10)
        await fast.text()
        async with trio.open_nursery() as nursery:

            async def keep_reading() -> None:
                while await fast.event():
                    pass

            nursery.start_soon(keep_reading)
            await viewers(server, 1)
            await until(lambda: server.gateway.stats().connections == 1)
            nursery.cancel_scope.cancel()
        slow.close()


async def test_a_drain_ends_a_console_with_1012() -> None:
    limits = Limits(console=ConsoleLimits(frames=FrameLimits()))
    async with running(limits) as server, open_socket(server.port, GOOD) as socket:
        await viewers(server, 1)
        watch = Stopwatch()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.gateway.drain)
            assert (await socket.close()).code == CloseCode.RESTART
        assert watch.seconds < 2
        assert server.doorkeeper.grants[0].released
