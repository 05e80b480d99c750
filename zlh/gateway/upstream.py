"""Connections to what stands behind the gateway, kept open between requests, each destination for itself."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import trio

from zlh.gateway.arrivals import Arrivals
from zlh.gateway.connection import Connection, ask_when_silent
from zlh.gateway.limits import Limits
from zlh.gateway.watch import Watch


class UnixDestination(NamedTuple):
    path: str


class TcpDestination(NamedTuple):
    """`host` is an IP address: names are never looked up while a request waits. Connections are only shared within a
    `group`: an address may become another container's."""

    host: str
    port: int
    group: int = 0


Destination = UnixDestination | TcpDestination


class UpstreamError(Exception):
    """Nobody answers there. Nothing was sent."""


class UpstreamBusyError(UpstreamError):
    """As many connections as are allowed to one destination are in use."""


class Upstream(Connection):
    """A connection that belongs to a pool.

    `reused`: it has carried a request before; `reusable`: it may carry another one. `unasked` is what the arrivals
    call when it says something while it is idle, None where they do not listen to it.
    """

    __slots__ = ("destination", "idle_since", "reusable", "reused", "unasked")

    def __init__(self, sock: socket.socket, destination: Destination, *, write_seconds: float) -> None:
        super().__init__(sock, write_seconds=write_seconds)
        self.destination = destination
        self.reused = False
        self.reusable = False
        self.idle_since = 0.0
        self.unasked: Callable[[], None] | None = None


class Pool:
    """Take one, then `give` it back after a complete answer, or `drop` it after anything else."""

    def __init__(self, limits: Limits, watch: Watch) -> None:
        self._limits = limits
        self._watch = watch
        self._idle: dict[Destination, list[Upstream]] = {}
        self._open: dict[Destination, int] = {}
        watch.on_tick(self._expire)

    @property
    def arrivals(self) -> Arrivals:
        return self._watch.arrivals

    @property
    def open_count(self) -> int:
        return sum(self._open.values())

    async def take(self, destination: Destination, *, fresh: bool = False) -> Upstream:
        """An idle connection, or a new one. Raises UpstreamError."""
        idle = self._idle.get(destination)
        while idle and not fresh:
            upstream = idle.pop()
            if upstream.is_stale():
                self.drop(upstream)
                continue
            self.release(upstream)
            upstream.reused = True
            upstream.reusable = False
            return upstream
        return await self._connect(destination)

    def take_nowait(self, destination: Destination, reader: Callable[[], None]) -> Upstream | None:
        """An idle connection, whose arrivals are `reader`'s; None where there is none. One that was given back by
        those who took it so is listened to meanwhile, and needs no look at whether it is still good."""
        idle = self._idle.get(destination)
        while idle:
            upstream = idle.pop()
            if upstream.unasked is None:
                if upstream.is_stale():
                    self.drop(upstream)
                    continue
                upstream.unasked = partial(self._spoke_unasked, upstream)
                upstream.reused = True
            self.arrivals.listen(upstream, reader)
            return upstream
        return None

    def release(self, upstream: Upstream) -> None:
        """Who has it reads it with a task from now on."""
        if upstream.unasked is not None:
            upstream.unasked = None
            self.arrivals.ignore(upstream)

    def give(self, upstream: Upstream) -> None:
        idle = self._idle.setdefault(upstream.destination, [])
        if upstream.buffer or upstream.interrupted or len(idle) >= self._limits.upstream_idle:
            self.drop(upstream)
            return
        upstream.idle_since = self._watch.now
        idle.append(upstream)
        if upstream.unasked is not None:
            self.arrivals.listen(upstream, upstream.unasked)

    def drop(self, upstream: Upstream) -> None:
        """Closes it. May be called more than once."""
        if upstream.closed:
            return
        self.release(upstream)
        self._watch.remove(upstream)
        upstream.close()
        self._forget(upstream.destination)

    def close(self) -> None:
        """Closes every idle connection."""
        self._watch.off_tick(self._expire)
        for idle in self._idle.values():
            for upstream in idle:
                self.drop(upstream)
        self._idle.clear()

    def _spoke_unasked(self, upstream: Upstream) -> None:
        """It was closed by its peer, or what it says is for nobody."""
        self._idle[upstream.destination].remove(upstream)
        self.drop(upstream)

    async def _connect(self, destination: Destination) -> Upstream:
        in_use = self._open.get(destination, 0)
        if in_use >= self._limits.upstream_connections:
            raise UpstreamBusyError(f"{in_use} connections are open")
        self._open[destination] = in_use + 1
        sock: socket.socket | None = None
        try:
            with trio.fail_after(self._limits.connect_seconds):
                sock = await _open_socket(destination)
        except trio.TooSlowError:
            raise UpstreamError(f"{destination} did not answer in {self._limits.connect_seconds} s") from None
        except OSError as error:
            raise UpstreamError(f"{destination}: {error.strerror}") from None
        finally:
            if sock is None:
                self._forget(destination)
        upstream = Upstream(sock, destination, write_seconds=self._limits.write_seconds)
        self._watch.add(upstream)
        return upstream

    def _forget(self, destination: Destination) -> None:
        self._open[destination] -= 1
        if not self._open[destination]:
            del self._open[destination]

    def _expire(self, now: float) -> None:
        oldest = now - self._limits.upstream_idle_seconds
        for destination, idle in list(self._idle.items()):
            while idle and idle[0].idle_since < oldest:
                self.drop(idle.pop(0))
            if not idle:
                del self._idle[destination]


async def _open_socket(destination: Destination) -> socket.socket:
    if isinstance(destination, UnixDestination):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address: str | tuple[str, int] = destination.path
    else:
        sock = socket.socket(socket.AF_INET6 if ":" in destination.host else socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ask_when_silent(sock)
        address = (destination.host, destination.port)
    try:
        sock.setblocking(False)
        await _connect_socket(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect_socket(sock: socket.socket, address: str | tuple[str, int]) -> None:
    code = sock.connect_ex(address)
    while code == errno.EAGAIN:
        # The backlog of a unix socket is full, and no event tells when it is not.
        await trio.sleep(0.005)
        code = sock.connect_ex(address)
    if code == errno.EINPROGRESS:
        await trio.lowlevel.wait_writable(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
