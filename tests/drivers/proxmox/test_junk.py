"""Whatever answers at the other end: the driver says one of its own errors, in time and in bounded memory."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from zlh.drivers.errors import DriverError, Invalid, NotFound, Refused, Unreachable
from zlh.drivers.proxmox import ProxmoxDriver, TokenAuth
from zlh.drivers.proxmox.wire import MAX_ANSWER_BYTES

Serve = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def answering(serve: Serve, cap_seconds: float = 5.0) -> AsyncIterator[ProxmoxDriver]:
    """A driver whose other end reads a request head and then does as `serve` likes."""

    async def connection(stream: trio.SocketStream) -> None:
        try:
            while b"\r\n\r\n" not in (await stream.receive_some(65536) or b"\r\n\r\n"):
                pass
            await serve(stream)
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, connection, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        driver = ProxmoxDriver(
            f"http://127.0.0.1:{port}", TokenAuth("root@pam!t", "secret-uuid"), cap_seconds=cap_seconds
        )
        yield driver
        await driver.aclose()
        nursery.cancel_scope.cancel()


def sending(answer: bytes) -> Serve:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(answer)
        await stream.aclose()

    return serve


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


GARBAGE = [
    (b"", Unreachable),
    (b"\x00\xff\x00\xff\r\n\r\n", Unreachable),
    (b"SSH-2.0-OpenSSH_9.2\r\n", Unreachable),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", Unreachable),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Unreachable),
    (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000 + b"\r\n", Unreachable),
    (http("200 OK"), Invalid),
    (http("204 No Content"), Invalid),
    (http("200 OK", b"<html>hello"), Invalid),
    (http("200 OK", b"\xff\xfe"), Invalid),
    (http("200 OK", b"[]"), Invalid),
    (http("200 OK", b"null"), Invalid),
    (http("200 OK", b'"data"'), Invalid),
    (http("200 OK", b"{}"), Invalid),
    (http("200 OK", b'{"data": NaN}'), Invalid),
    (http("200 OK", b'{"data":' + b"[" * 100_000), Invalid),
    (http("200 OK", b'{"data": 7}'), Invalid),
    (http("200 OK", b'{"data": {"a": 1}}'), Invalid),
    (http("200 OK", gzip.compress(b'{"data": "x"}'), "Content-Encoding: gzip"), Invalid),
    (http("301 Moved", b"", "Location: http://127.0.0.1:1/"), Invalid),
    (http("307 Moved", b"", "Location: /api2/json/elsewhere"), Invalid),
    (http("400 Bad", b'{"errors": ["x"]}'), Refused),
    (http("400 Bad", b'{"errors": {"memory": {"deep": 1}}}'), Refused),
    (http("401 No ticket"), Refused),
    (http("403 Permission check failed", b"<html>"), Refused),
    (http("404 Not Found", b"<html>"), NotFound),
    (http("500 Configuration file 'nodes/pve1/lxc/1.conf' does not exist", b'{"data":null}'), NotFound),
    (http("500 x", b'{"data":null,"message":{"not":"text"}}'), Unreachable),
    (http("500 x", b'{"message":"' + b"y" * 1_000_000 + b'"}'), Unreachable),
    (http("502 Bad Gateway", b"<html>"), Unreachable),
    (http("599 Odd"), Unreachable),
]


@pytest.mark.parametrize(("answer", "expected"), GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage(answer: bytes, expected: type[DriverError]) -> None:
    async with answering(sending(answer)) as driver:
        with trio.fail_after(5):
            with pytest.raises(DriverError) as read:
                await driver.resources()
            with pytest.raises(DriverError) as changed:
                await driver.start("pve1", 1)
    assert type(read.value) is expected
    assert not read.value.may_have_happened
    assert type(changed.value) is expected
    assert len(str(changed.value)) < 5000
    # A broken 200 says that something was done; a redirect and a refusal say that nothing was.
    refused = expected in (Refused, NotFound) or answer.startswith(b"HTTP/1.1 30")
    assert changed.value.may_have_happened != refused


async def test_an_endless_answer_is_cut() -> None:
    sent = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal sent
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"100000\r\n" + b" " * 0x100000 + b"\r\n")
            sent += 0x100000

    async with answering(serve) as driver:
        with trio.fail_after(5), pytest.raises(Invalid, match="more than"):
            await driver.resources()
    assert sent < MAX_ANSWER_BYTES + 16 * 2**20


async def test_a_dripping_answer_ends_at_the_cap() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await stream.send_all(b" ")
            await trio.sleep(0.02)

    async with answering(serve, cap_seconds=0.4) as driver:
        with trio.fail_after(5), pytest.raises(Unreachable, match=r"no answer within 0\.4 s"):
            await driver.resources()


async def test_nobody_listens() -> None:
    async with answering(sending(b"")) as driver:
        pass
    other = ProxmoxDriver("http://127.0.0.1:1", TokenAuth("root@pam!t", "secret-uuid"))
    with pytest.raises(Unreachable) as refused:
        await other.start("pve1", 1)
    assert not refused.value.may_have_happened
    await other.aclose()
    with pytest.raises(Unreachable, match="closed"):
        await driver.version()


async def test_names_stay_names() -> None:
    seen: list[bytes] = []

    async def connection(stream: trio.SocketStream) -> None:
        seen.append((await stream.receive_some(65536)).split(b"\r\n")[0])
        await stream.send_all(http("200 OK", b'{"data":{"status":"running"}}'))

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, connection, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        driver = ProxmoxDriver(f"http://127.0.0.1:{port}/", TokenAuth("root@pam!t", "secret-uuid"))
        for name in ("../../access", "a/b", "..", "pve1?x=y", "pve 1\r\nX: y"):
            await driver.status(name, 5001)
        await driver.aclose()
        nursery.cancel_scope.cancel()
    assert seen == [
        b"GET /api2/json/nodes/%2E%2E%2F%2E%2E%2Faccess/lxc/5001/status/current HTTP/1.1",
        b"GET /api2/json/nodes/a%2Fb/lxc/5001/status/current HTTP/1.1",
        b"GET /api2/json/nodes/%2E%2E/lxc/5001/status/current HTTP/1.1",
        b"GET /api2/json/nodes/pve1%3Fx%3Dy/lxc/5001/status/current HTTP/1.1",
        b"GET /api2/json/nodes/pve%201%0D%0AX:%20y/lxc/5001/status/current HTTP/1.1",
    ]


ANSWERS = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda status, body: http(f"{status} x", body),
        st.integers(200, 700),
        st.binary(max_size=200)
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=10),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["data", "errors", "message"]) | st.text(max_size=5), inner)
            ),
            max_leaves=8,
        ).map(lambda document: json.dumps(document).encode()),
    ),
)


@settings(max_examples=60, deadline=None)
@given(answer=ANSWERS)
async def test_nothing_else_ever_leaves_the_driver(answer: bytes) -> None:
    async with answering(sending(answer)) as driver:
        for call in (driver.version, driver.resources, lambda: driver.destroy("pve1", 5001)):
            try:
                await call()
            except DriverError:
                pass
