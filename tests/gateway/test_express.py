"""The fast lane: what it does is what the door does, and whatever is out of the ordinary goes to the door."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio

from tests.gateway.ide import HOST, TOKEN, VMID, Guest, Scene, guest, open_scene
from tests.gateway.peer import PATIENCE, Answer, connect, until
from zlh.gateway import Limits
from zlh.gateway.express import Express
from zlh.gateway.gateway import Gateway
from zlh.model.containers import Power
from zlh.model.errors import UnauthenticatedError
from zlh.wire.http import RequestHead

GET = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: zlh-pass=good\r\n\r\n".encode()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The targets of the requests that the door saw, and of those whose answers it did."""
    seen: list[bytes] = []
    handle = Gateway._handle

    async def handle_and_tell(self: Gateway, client: object, head: RequestHead, asked: object) -> bool:
        seen.append(head.target if asked is None else b"answer to " + head.target)
        return await handle(self, client, head, asked)  # type: ignore[arg-type]

    monkeypatch.setattr(Gateway, "_handle", handle_and_tell)
    return seen


@asynccontextmanager
async def regular(scene: Scene, *lines: str) -> AsyncIterator[Guest]:
    """A guest who is on the lane by now."""
    async with guest(scene) as peer:
        for _ in range(2):
            assert (await peer.ask("GET", "/first", *lines)).status == 200
        yield peer


def saying(raw: bytes) -> Callable[[RequestHead, bytes], bytes]:
    return lambda head, body: raw


async def test_the_door_sees_the_first_request_alone(slow: list[bytes]) -> None:
    async with open_scene() as scene, guest(scene) as peer:
        told = [await peer.ask("GET", f"/{number}?q", "Cookie: own=1", "TE: x") for number in range(5)]
        assert slow == [b"/0?q"]
        assert [answer.json["target"] for answer in told] == [f"/{number}?q" for number in range(5)]
        fields = [[field for field in answer.json["fields"] if field[0] != "x-request-id"] for answer in told]
        assert all(each == fields[0] for each in fields)
        assert ["cookie", "own=1"] in fields[0]
        ids = {dict(answer.json["fields"])["x-request-id"] for answer in told}
        assert ids == {answer.field("x-request-id") for answer in told}
        assert len(ids) == 5
        assert scene.gateway.stats().requests == 5
        assert scene.uses.touches == 5
        assert scene.program.connections == 1


async def test_by_path_too(slow: list[bytes]) -> None:
    async with open_scene(zone="") as scene, guest(scene, host="api", cookie=f"zlh-ide-{VMID}=good") as peer:
        for number in range(3):
            assert (await peer.ask("GET", f"/ide/{VMID}/{number}")).json["target"] == f"/{number}"
        assert slow == [f"/ide/{VMID}/0".encode()]
        assert (await peer.ask("GET", "/ide/6002/")).status == 401
        assert slow[-1] == b"/ide/6002/"


UNUSUAL_REQUESTS = {
    "a body": b"POST / HTTP/1.1\r\nHost: %b\r\nCookie: zlh-pass=good\r\nContent-Length: 2\r\n\r\nab",
    "a HEAD": b"HEAD / HTTP/1.1\r\nHost: %b\r\nCookie: zlh-pass=good\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\nHost: %b\r\nCookie: zlh-pass=good\r\nConnection: keep-alive\r\n\r\n",
    "a last request": b"GET / HTTP/1.1\r\nHost: %b\r\nCookie: zlh-pass=good\r\nConnection: close\r\n\r\n",
    "an id of its own": b"GET / HTTP/1.1\r\nHost: %b\r\nCookie: zlh-pass=good\r\nX-Request-Id: x\r\n\r\n",
    "two passes": b"GET / HTTP/1.1\r\nHost: %b\r\nCookie: zlh-pass=good\r\nCookie: zlh-pass=x\r\n\r\n",
    "two in a row": b"GET / HTTP/1.1\r\nHost: %b\r\nCookie: zlh-pass=good\r\n\r\n" * 2,
}


@pytest.mark.parametrize("name", UNUSUAL_REQUESTS)
async def test_other_requests_go_to_the_door(name: str, slow: list[bytes]) -> None:
    raw = UNUSUAL_REQUESTS[name]
    async with open_scene() as scene, regular(scene) as peer:
        slow.clear()
        await peer.send(raw.replace(b"%b", HOST.encode()))
        assert (await peer.answer(raw.split()[0].decode())).status == 200
        assert slow[0] == b"/"


async def test_a_head_in_pieces() -> None:
    async with open_scene() as scene, regular(scene) as peer:
        for at in range(1, len(GET), 7):
            await peer.send(GET[:at])
            await trio.testing.wait_all_tasks_blocked()
            await peer.send(GET[at:])
            assert (await peer.answer()).status == 200


REFUSED = {
    "a bare line feed": GET[:-2] + b"X: a\nY: b\r\n\r\n",
    "two hosts": GET[:-2] + b"Host: x\r\n\r\n",
    "a control byte": GET[:-2] + b"X: \0\r\n\r\n",
    "a folded line": GET[:-2] + b"X: a\r\n b\r\n\r\n",
    "a length and a coding": GET[:-2] + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two slashes": GET.replace(b"GET / ", b"GET //evil/ "),
    "a fragment": GET.replace(b"GET / ", b"GET /#x "),
    "no host": GET.replace(b"Host", b"Toast"),
    "many fields": GET[:-2] + b"a: b\r\n" * 101 + b"\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_nothing_is_let_through_that_the_door_refuses(name: str) -> None:
    async with open_scene() as scene, regular(scene) as peer:
        await peer.send(REFUSED[name])
        assert (await peer.answer()).status in (400, 431)
        assert await peer.closed()
        assert len(scene.program.heads) == 2


UNUSUAL_ANSWERS = {
    "a cookie": b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Domain=x\r\nContent-Length: 2\r\n\r\nok",
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nok",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "the last one": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("name", UNUSUAL_ANSWERS)
async def test_other_answers_go_to_the_door(name: str, slow: list[bytes]) -> None:
    async with open_scene() as scene, regular(scene) as peer:
        scene.program.answer = saying(UNUSUAL_ANSWERS[name])
        for _ in range(2):
            answer = await peer.ask("GET", "/x")
            assert answer.body == b"ok"
            assert answer.field("x-request-id") == dict(scene.program.heads[-1].fields)[b"x-request-id"].decode()
        assert b"answer to /x" in slow
        assert answer.field("set-cookie") in (None, "a=b")
        await until(lambda: scene.gateway.stats().ide_visits == 0)


MALFORMED = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "a length and a coding": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
    "a signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "a folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    "a bare line feed": b"HTTP/1.1 200 OK\r\nX: a\nY: b\r\nContent-Length: 2\r\n\r\nok",
    "a bare carriage return": b"HTTP/1.1 200 OK\r\nX: a\rY: b\r\nContent-Length: 2\r\n\r\nok",
    "a field that is none": b"HTTP/1.1 200 OK\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "no status": b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_answers_are_refused_here_too(name: str) -> None:
    async with open_scene() as scene, regular(scene) as peer:
        scene.program.answer = saying(MALFORMED[name])
        answer = await peer.ask("GET", "/x")
        assert answer.status == 502
        assert await peer.closed()
        await until(lambda: scene.gateway.stats().upstream_connections == 0)


async def test_answers_without_a_body(slow: list[bytes]) -> None:
    async with open_scene() as scene, regular(scene) as peer:
        slow.clear()
        scene.program.answer = saying(b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 77\r\n\r\n')
        for _ in range(2):
            answer = await peer.ask("GET", "/x")
            assert (answer.status, answer.field("content-length"), answer.body) == (304, "77", b"")
        assert (scene.program.connections, slow) == (1, [])


@pytest.mark.parametrize("size", [0, 1, 60_000, 70_000, 300_000, 3_000_000])
async def test_answers_of_every_length(size: int, slow: list[bytes]) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    async with open_scene() as scene, regular(scene) as peer:
        slow.clear()
        scene.program.answer = saying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, body[:size]))
        for _ in range(3):
            answer = await peer.ask("GET", "/x")
            assert answer.body == body[:size]
        assert (scene.program.connections, slow) == (1, [])
        assert scene.gateway.stats().requests == 5


async def test_a_client_that_reads_slowly_gets_all_of_it() -> None:
    async with open_scene() as scene, regular(scene) as peer:
        scene.program.answer = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n" + b"x" * 20_000_000)
        await peer.send(GET)
        await trio.sleep(0.3)
        assert len((await peer.answer()).body) == 20_000_000


async def test_what_comes_after_an_answer_is_nobodys() -> None:
    async with open_scene() as scene, regular(scene) as peer:
        scene.program.answer = saying(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
        )
        for _ in range(4):
            assert (await peer.ask("GET", "/")).body == b"ok"


async def test_what_an_idle_program_says_ends_its_connection() -> None:
    sends: list[trio.SocketStream] = []

    async def talkative(stream: trio.SocketStream) -> None:
        sends.append(stream)
        await scene.program.converse(stream)

    async with open_scene() as scene:
        scene.program.handler = talkative
        async with regular(scene) as peer:
            await sends[0].send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
            await until(lambda: scene.gateway.stats().upstream_connections == 0)
            assert (await peer.ask("GET", "/")).json["target"] == "/"
        assert scene.program.connections == 2


async def test_a_program_that_closed_meanwhile_is_asked_again() -> None:
    """Whether that is seen before the request or after it."""

    async def once(stream: trio.SocketStream) -> None:
        await scene.program.converse(Ending(stream))  # type: ignore[arg-type]

    async with open_scene() as scene, regular(scene) as peer:
        scene.program.handler = once
        for _ in range(20):
            assert (await peer.ask("GET", "/")).json["target"] == "/"


class Ending:
    """A stream that ends after one answer."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._answered = False

    async def receive_some(self, size: int) -> bytes:
        return b"" if self._answered else await self._stream.receive_some(size)

    async def send_all(self, data: bytes) -> None:
        self._answered = True
        await self._stream.send_all(data)


async def test_a_right_that_ended_is_noticed_at_the_next_request(slow: list[bytes]) -> None:
    async with open_scene() as scene:
        async with regular(scene) as peer:
            scene.keeper.refusal = UnauthenticatedError("signed out", code="signed_out")
            assert (await peer.ask("GET", "/secret")).json["code"] == "signed_out"
        scene.keeper.refusal = None
        async with regular(scene) as peer:
            scene.workshops.power(Power.OFF)
            assert (await peer.ask("GET", "/secret")).status == 503
        scene.workshops.power(Power.ON)
        async with regular(scene) as peer:
            with scene.lying("127.0.0.1"):
                assert (await peer.ask("GET", "/secret")).status == 503
        assert b"/secret" not in [head.target for head in scene.program.heads]


async def test_a_token_is_redeemed_on_the_lane_too(slow: list[bytes]) -> None:
    async with open_scene() as scene, regular(scene) as peer:
        answer = await peer.ask("GET", f"/x?token={TOKEN}")
        assert (answer.status, answer.field("location"), scene.keeper.spent) == (303, "/x", True)
        assert (await peer.ask("GET", "/.zlh/start")).status == 303
        assert len(scene.program.heads) == 2


async def test_who_may_come_again_is_back_on_the_lane(slow: list[bytes]) -> None:
    async with open_scene() as scene, regular(scene) as peer:
        scene.keeper.grants[-1].end(4401, "for a moment")
        slow.clear()
        for _ in range(3):
            assert (await peer.ask("GET", "/x")).status == 200
        assert slow == []


async def test_a_pass_that_is_due_is_renewed() -> None:
    async with open_scene() as scene, regular(scene) as peer:
        scene.keeper.renewed = "fresh"
        assert (await peer.ask("GET", "/")).field(
            "set-cookie"
        ) == "zlh-pass=fresh; Path=/; Max-Age=600; HttpOnly; SameSite=Lax"


@asynccontextmanager
async def waiting(scene: Scene) -> AsyncIterator[Guest]:
    """A regular whose request the program does not answer."""
    asked = trio.Event()

    async def silent(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await stream.receive_some(65536)
        asked.set()
        assert not await stream.receive_some(1)

    scene.program.handler = silent
    async with guest(scene) as peer:
        await peer.ask("GET", "/")
        await peer.send(GET)
        with trio.fail_after(PATIENCE):
            await asked.wait()
        assert scene.gateway.stats().ide_visits == 1
        yield peer
        await until(lambda: scene.gateway.stats().upstream_connections == 0)
        await until(lambda: scene.gateway.stats().ide_visits == 0)
        assert scene.gateway.stats().crashes == 0


@pytest.mark.parametrize("how", ["grant", "power"])
async def test_what_is_under_way_when_its_right_ends_is_cut_off(how: str) -> None:
    async with open_scene() as scene, waiting(scene) as peer:
        if how == "grant":
            scene.keeper.grants[-1].end(4401, "signed out")
        else:
            scene.workshops.power(Power.OFF)
        assert await peer.closed()
        assert peer.buffer == b""


async def test_a_client_that_goes_away_takes_its_request_along() -> None:
    async with open_scene() as scene, waiting(scene) as peer:
        await peer.stream.aclose()


async def test_an_answer_that_never_comes_is_a_504() -> None:
    async with open_scene(limits=Limits(answer_seconds=0.3)) as scene, waiting(scene) as peer:
        assert (await peer.answer()).status == 504


async def test_a_request_behind_the_one_under_way_waits() -> None:
    async with open_scene(limits=Limits(answer_seconds=0.5)) as scene, waiting(scene) as peer:
        await peer.send(GET)
        assert (await peer.answer()).status == 504
        assert await peer.closed()
        assert peer.buffer == b""


async def test_requests_in_a_row_are_answered_in_turn() -> None:
    async with open_scene() as scene, regular(scene) as peer:
        for number in range(5):
            await peer.send(GET.replace(b"/ ", b"/%d " % number, 1))
        assert [(await peer.answer()).json["target"] for _ in range(5)] == [f"/{number}" for number in range(5)]


async def test_an_answer_that_breaks_off_closes_the_client() -> None:
    async def half(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    async with open_scene() as scene, guest(scene) as peer:
        scene.program.handler = half
        await peer.ask("GET", "/")
        await peer.send(GET)
        assert (await peer.read_head()).length == 100
        assert await peer.closed()
        assert peer.buffer == b"half"


async def test_after_half_a_head_it_is_asked_again() -> None:
    async def half(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-")

    async with open_scene() as scene, guest(scene) as peer:
        scene.program.handler = half
        await peer.ask("GET", "/")
        await peer.send(GET)
        assert (await peer.answer()).status == 200


async def test_who_is_idle_for_too_long_is_closed() -> None:
    async with open_scene(limits=Limits(idle_seconds=0.3)) as scene, regular(scene) as peer:
        assert await peer.closed()
        assert peer.buffer == b""


async def test_a_drain_lets_what_is_under_way_finish() -> None:
    release = trio.Event()

    async def late(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await stream.receive_some(65536)
        await release.wait()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

    async with open_scene() as scene, guest(scene) as peer, guest(scene) as idle:
        await idle.ask("GET", "/")
        scene.program.handler = late
        await until(lambda: scene.gateway.stats().upstream_connections == 1)
        # The connection that is there already speaks as before: another one takes its place.
        async with guest(scene) as other, trio.open_nursery() as nursery:
            nursery.start_soon(other.ask, "GET", "/")
            await peer.ask("GET", "/")
        await peer.send(GET)
        await until(lambda: scene.gateway.stats().ide_visits == 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.gateway.drain)
            await trio.sleep(0.1)
            release.set()
            answer = await peer.answer()
            assert (answer.body, answer.field("connection")) == (b"late", "close")
            assert await peer.closed()
            assert await idle.closed()


async def test_two_who_share_a_connection_are_told_apart(slow: list[bytes]) -> None:
    """As behind a proxy of our own."""
    async with open_scene() as scene, regular(scene) as peer:
        for _ in range(3):
            peer.cookie = "zlh-pass=good"
            assert (await peer.ask("GET", "/hers")).status == 200
            peer.cookie = "zlh-pass=good; own=2"
            told = await peer.ask("GET", "/his")
            assert dict(told.json["fields"])["cookie"] == "own=2"
        peer.cookie = "zlh-pass=bad"
        assert (await peer.ask("GET", "/theirs")).status == 401


FOREIGN = {
    "another origin": ("Origin: https://evil.example",),
    "an image of another site": ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"),
}


@pytest.mark.parametrize("name", FOREIGN)
async def test_a_page_of_another_site_uses_no_cookie_on_the_lane_either(name: str) -> None:
    async with open_scene() as scene:
        for asked in (2, 4, 6):
            async with regular(scene) as peer:
                assert (await peer.ask("GET", "/first", *FOREIGN[name])).status == 403
                assert len(scene.program.heads) == asked


async def test_who_asks_from_elsewhere_in_the_same_words_is_told_apart(slow: list[bytes]) -> None:
    async with open_scene() as scene:
        for address in ("127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.2"):
            async with await trio.open_tcp_stream("127.0.0.1", scene.port, local_address=address) as stream:
                peer = Guest(stream)
                for _ in range(3):
                    told = await peer.ask("GET", "/first")
                    assert dict(told.json["fields"])["x-forwarded-for"] == address
    assert len(slow) < 12, "nobody was on the lane"


@contextmanager
def no_lane(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    async def serve(self: Express, client: object) -> None:
        return None

    with monkeypatch.context() as patch:
        patch.setattr(Express, "serve", serve)
        yield


@pytest.mark.parametrize("raw", [*MALFORMED.values(), *UNUSUAL_ANSWERS.values()])
async def test_both_lanes_say_the_same_of_an_answer(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked() -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        async with open_scene() as scene, regular(scene) as peer:
            scene.program.answer = saying(raw)
            return said(await peer.ask("GET", "/x"))

    quick = await asked()
    with no_lane(monkeypatch):
        assert await asked() == quick


def said(answer: Answer) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    own = (b"x-request-id", b"content-length") if answer.status >= 500 else (b"x-request-id",)
    body = b"" if answer.status >= 500 else answer.body
    return answer.head.status, body, sorted(field for field in answer.head.fields if field[0] not in own)


async def test_one_client_after_the_other(slow: list[bytes]) -> None:
    async with open_scene() as scene:
        for _ in range(3):
            async with regular(scene) as peer:
                assert (await peer.ask("GET", "/")).status == 200
        assert slow == [b"/first"] * 3
        assert scene.program.connections == 1
        assert len(scene.keeper.grants) == 4, "one for each first request, and one for the regular"
        async with connect(scene.port) as stranger:
            await stranger.send(GET.replace(b"good", b"bad"))
            assert (await stranger.answer()).status == 401
