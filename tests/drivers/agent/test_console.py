"""The console's websocket client."""

from __future__ import annotations

import pytest
import trio

from tests.agents import GAME, client_of, start_agent, typed, until
from tests.drivers.agent.peers import Peer, answering, ok
from zlh.drivers.agent import AgentClient, ConsoleStream
from zlh.drivers.agent.answers import MAX_LINE
from zlh.drivers.errors import Invalid, Refused, Unreachable, Unsupported
from zlh.model.console import Stretch
from zlh.simulators.agent import Fault, FaultName
from zlh.wire import frames


async def read_until(stream: ConsoleStream, wanted: str) -> list[str]:
    seen: list[str] = []
    with trio.fail_after(5):
        async for stretch in stream:
            seen += stretch.lines
            if any(wanted in line for line in stretch.lines):
                return seen
    raise AssertionError(f"{wanted!r} never came: {seen}")


def websocket(*answers: bytes, wait: bool = True):
    """Accepts the upgrade and sends these frames."""

    async def talk(stream: trio.SocketStream) -> None:
        request = await stream.receive_some()
        key = next(line[19:] for line in request.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key: "))
        head = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        )
        await stream.send_all(head + frames.accept_key(key) + b"\r\n\r\n" + b"".join(answers))
        while wait and await stream.receive_some():
            pass

    return talk


async def open_to(nursery: trio.Nursery, talk) -> ConsoleStream:
    peer = await nursery.start(Peer(talk).run)
    with trio.fail_after(5):
        return await AgentClient("127.0.0.1", peer.port, "t").open_console()


@pytest.mark.parametrize("light", [True, False])
async def test_lines_out_and_commands_in(nursery, tmp_path, light):
    agent = await start_agent(nursery, tmp_path, config=GAME, light=light)
    with client_of(agent) as client:
        async with await client.open_console() as stream:
            await stream.send_line("say hällo")
            await read_until(stream, "[Server] hällo")
            assert await typed(client, "list") == 202
            await read_until(stream, "There are 0 of a max of 20 players online")
            with pytest.raises(Invalid):
                await stream.send_line("a\nb")
        await until(lambda: not agent.console.watched)


async def test_a_flood_comes_coalesced_and_in_order(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    with client_of(agent) as client:
        async with await client.open_console() as stream:
            agent.faults.set(Fault(FaultName.CONSOLE_FLOOD, rate=20_000))
            batches = 0
            numbers: list[int] = []
            with trio.fail_after(10):
                async for stretch in stream:
                    batches += 1
                    numbers += [int(line.removeprefix("flood line ")) for line in stretch.lines]
                    if len(numbers) > 5000:
                        break
            assert numbers == list(range(1, len(numbers) + 1))
            assert batches < len(numbers) / 50


async def test_a_stop_of_the_agent_ends_the_stream(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    with client_of(agent) as client:
        stream = await client.open_console()
        agent.faults.set(FaultName.REFUSING)
        with trio.fail_after(5):
            try:
                assert [lines async for lines in stream] == []
            except Unreachable:
                pass
        await stream.aclose()


async def test_refusals_of_the_upgrade(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    with client_of(agent, "wrong") as client, pytest.raises(Refused) as caught:
        await client.open_console()
    assert caught.value.status == 401
    for answer, kind in (
        (ok(head=b"HTTP/1.1 404 x"), Unsupported),
        (ok(), Invalid),
        (b"HTTP/1.1 101 x\r\n\r\n", Invalid),
        (b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: no\r\n\r\n", Invalid),
        (b"HTTP/1.1 101 x\r\n" + b"A: b\r\n" * 9000, Invalid),
        (b"HTTP/1.1 10", Unreachable),
        (b"SSH-2.0\r\n", Invalid),
        (b"", Unreachable),
    ):
        with pytest.raises(kind, match="/console/stream: "):
            await open_to(nursery, answering(answer))


async def test_control_frames_are_answered_and_text_is_split(nursery):
    pong = trio.Event()

    async def talk(stream: trio.SocketStream) -> None:
        await websocket(
            frames.server_frame(frames.Opcode.PING, b"x"),
            frames.server_frame(frames.Opcode.TEXT, b"a\r\nb\n"),
            frames.server_frame(frames.Opcode.TEXT, b"long" + b"x" * 20_000),
            wait=False,
        )(stream)
        events = frames.FrameDecoder(masked=True).feed(await stream.receive_some())
        if events == [frames.Pong(b"x")]:
            pong.set()
        await stream.send_all(frames.server_frame(frames.Opcode.CLOSE, frames.close_payload(1001)))

    stream = await open_to(nursery, talk)
    with trio.fail_after(5):
        lines = [line async for stretch in stream for line in stretch.lines]
        await pong.wait()
    assert lines == ["a", "b", "long" + "x" * (MAX_LINE - 4)]
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()
    await stream.aclose()
    await stream.aclose()


@pytest.mark.parametrize(
    "frame",
    [
        frames.client_frame(frames.Opcode.TEXT, b"masked"),
        frames.server_frame(frames.Opcode.TEXT, b"\xff"),
        frames.server_frame(frames.Opcode.BINARY, b"b"),
        b"\xc1\x00",
        b"\x81\x7f" + (1 << 40).to_bytes(8, "big"),
    ],
    ids=["masked", "not UTF-8", "binary", "reserved bits", "huge"],
)
async def test_a_broken_frame_is_invalid(nursery, frame):
    stream = await open_to(nursery, websocket(frame))
    with trio.fail_after(5), pytest.raises(Invalid):
        await stream.__anext__()
    await stream.aclose()


async def test_closing_wakes_the_reader_and_refuses_senders(nursery):
    stream = await open_to(nursery, websocket())
    with trio.fail_after(5):
        async with trio.open_nursery() as readers:

            async def read() -> None:
                assert [lines async for lines in stream] == []

            readers.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            await stream.aclose()
        with pytest.raises(Unreachable, match="is closed"):
            await stream.send_line("x")


async def test_a_cancelled_line_closes_the_stream(nursery):
    async def talk(stream: trio.SocketStream) -> None:
        await websocket(wait=False)(stream)
        await trio.sleep_forever()

    stream = await open_to(nursery, talk)
    with trio.move_on_after(0.2) as scope:
        while True:
            await stream.send_line("x" * 60_000)
    assert scope.cancelled_caught
    with pytest.raises(Unreachable):
        await stream.send_line("y")


async def open_numbered(nursery: trio.Nursery, *texts: bytes) -> ConsoleStream:
    told = [frames.server_frame(frames.Opcode.TEXT, text) for text in texts]
    peer = await nursery.start(Peer(websocket(*told)).run)
    with trio.fail_after(5):
        return await AgentClient("127.0.0.1", peer.port, "t").open_console(numbered=True)


async def test_numbered_lines_come_in_stretches(nursery):
    stream = await open_numbered(
        nursery,
        b'{"epoch": 7, "first": 1, "lines": ["a", "b"]}',
        b'{"epoch": 7, "first": 3, "lines": ["c\\nd\\r"], "more": 1}',
        b'{"epoch": 7, "first": 9, "lines": ["i"]}',
        b'{"epoch": 8, "first": 10, "lines": ["j"]}',
    )
    seen: list[Stretch] = []
    with trio.fail_after(5):
        async for stretch in stream:
            seen.append(stretch)
            if stretch.epoch == 8:
                break
    assert [line for stretch in seen for line in stretch.lines] == ["a", "b", "c d", "i", "j"]
    assert seen[-2:] == [Stretch(("i",), 7, 9), Stretch(("j",), 8, 10)]
    await stream.aclose()


@pytest.mark.parametrize(
    "text",
    [
        b"plain",
        b"{}",
        b'{"epoch": 1, "lines": []}',
        b'{"epoch": -1, "first": 1, "lines": []}',
        b'{"epoch": 1, "first": 99999999999999999, "lines": []}',
        b'{"epoch": "x", "first": 1, "lines": []}',
        b'{"epoch": 1, "first": 1, "lines": [1]}',
    ],
)
async def test_numbers_that_are_none_are_invalid(nursery, text):
    stream = await open_numbered(nursery, text)
    with trio.fail_after(5), pytest.raises(Invalid, match="/console/stream: "):
        await stream.__anext__()
    await stream.aclose()


async def test_an_agent_tells_its_numbers(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    with client_of(agent) as client:
        newest = await client.numbered_history(2)
        assert newest.first is not None
        async with await client.open_console(numbered=True) as stream:
            before = stream.heard_at
            await stream.send_line("say hello")
            stretch = await stream.__anext__()
            assert (stretch.epoch, stretch.first) == (newest.epoch, newest.end)
            await stream.ping()
            await until(lambda: stream.heard_at > before)
        pages = [await client.numbered_history(1, after=number) for number in (newest.first - 1, newest.first)]
        assert [line for page in pages for line in page.lines] == list(newest.lines)
        late = await client.numbered_history(5, after=10_000)
        assert late.lines == ()
        agent.faults.set(FaultName.OLD_VERSION)
        with pytest.raises(Unsupported):
            await client.numbered_history(1)
        # It does not know the question, and answers as it always did.
        with pytest.raises(Invalid):
            async with await client.open_console(numbered=True) as stream:
                await stream.send_line("say hello")
                await stream.__anext__()
