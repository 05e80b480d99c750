"""The one listening socket: accepts, counts, sheds the longest idle when full, and contains every error."""

from __future__ import annotations

import errno
import logging
import resource
import socket
from collections import Counter
from collections.abc import Awaitable, Callable

import trio

from zlh.gateway.client import Client, State
from zlh.gateway.connection import GoneError, Interrupted, Reason, ask_when_silent
from zlh.gateway.forwarded import TrustedProxies
from zlh.gateway.limits import Limits
from zlh.gateway.refusals import Refusal, request_id_of
from zlh.gateway.stats import Counters
from zlh.gateway.watch import Watch

logger = logging.getLogger("zlh.gateway")

_ACCEPT_BATCH = 64
_SPARE_FILES = 256
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def bind_listener(host: str, port: int) -> socket.socket:
    """A TCP socket that has its address and does not listen yet. Raises OSError, also where somebody else listens."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def open_listener(host: str, port: int, backlog: int) -> socket.socket:
    """A listening TCP socket. Raises OSError."""
    sock = bind_listener(host, port)
    try:
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def affordable_connections(wanted: int) -> int:
    """As many as the process may have open files for: a client and its upstream are two."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(16, min(wanted, (soft - _SPARE_FILES) // 2))


class Listener:
    """`converse` serves one client until its connection is of no more use; what it raises ends that connection.
    `safety` is what `build_fields` made of the fields that every answer carries."""

    def __init__(
        self,
        sock: socket.socket,
        converse: Callable[[Client], Awaitable[None]],
        *,
        limits: Limits,
        proxies: TrustedProxies,
        watch: Watch,
        counters: Counters,
        safety: bytes = b"",
    ) -> None:
        self._safety = safety
        self._sock = sock
        self._converse = converse
        self._limits = limits
        self._most = affordable_connections(limits.connections)
        self._proxies = proxies
        self._watch = watch
        self._counters = counters
        self._by_address: Counter[str] = Counter()
        self._idle: dict[Client, None] = {}
        self.clients: set[Client] = set()

    async def run(self) -> None:
        """Accepts until the listening socket is closed by `stop`."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    await trio.lowlevel.wait_readable(self._sock)
                except (trio.ClosedResourceError, ValueError):
                    return
                if not self._accept_batch(nursery):
                    await trio.sleep(0.1)

    def stop(self) -> None:
        """No more connections; those that are open stay."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    def idle(self, client: Client) -> None:
        """This client waits for its (next) request, and may be shed."""
        self._idle[client] = None

    def busy(self, client: Client) -> None:
        self._idle.pop(client, None)

    def _accept_batch(self, nursery: trio.Nursery) -> bool:
        """False where the process is out of files."""
        for _ in range(_ACCEPT_BATCH):
            try:
                sock, address = self._sock.accept()
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno in _OUT_OF_FILES:
                    logger.warning("no connection can be accepted: %s", error.strerror)
                    self._shed(None)
                    return False
                continue  # that one connection was reset before it was accepted
            self._admit(sock, str(address[0]), nursery)
        return True

    def _admit(self, sock: socket.socket, address: str, nursery: trio.Nursery) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A peer that vanished without a word is given up when it acknowledges nothing for so long.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._limits.write_seconds * 1000))
        ask_when_silent(sock)
        client = Client(sock, address, address in self._proxies, self._limits, self._counters)
        self._counters.accepted += 1
        if not self._make_room(client):
            self.refuse_now(client, Refusal(503, "too many connections", code="too_many_connections", retry_after=5))
            sock.close()
            return
        self.clients.add(client)
        self._by_address[address] += 1
        self._watch.add(client, hangups=True)
        self.idle(client)
        nursery.start_soon(self._serve, client)

    def _make_room(self, client: Client) -> bool:
        if not client.trusted and self._by_address[client.address] >= self._limits.connections_per_address:
            return self._shed(client.address)
        return len(self.clients) < self._most or self._shed(None)

    def _shed(self, address: str | None) -> bool:
        """Closes the connection that has been idle for longest (of that address); False where none is idle."""
        for client in self._idle:
            if address is None or client.address == address:
                self._forget(client)
                self._counters.shed += 1
                client.interrupt(Reason.SHED)
                return True
        return False

    def _forget(self, client: Client) -> None:
        """Counts it out at once, though its task has yet to notice."""
        if client not in self.clients:
            return
        self.clients.discard(client)
        self._idle.pop(client, None)
        self._by_address[client.address] -= 1
        if not self._by_address[client.address]:
            del self._by_address[client.address]

    async def _serve(self, client: Client) -> None:
        try:
            await self._converse(client)
        except GoneError:
            self._counters.disconnects += client.state is not State.LINGERING
        except Interrupted:
            pass
        except Exception:
            self._counters.crashes += 1
            logger.exception("a connection from %s ended with an error", client.address)
        finally:
            self._forget(client)
            self._watch.remove(client)
            client.close()

    def refuse_now(self, client: Client, refusal: Refusal) -> None:
        """Tells a client why it is closed, if its socket takes that at once."""
        self._counters.refusals[refusal.code] += 1
        try:
            client.send_nowait(refusal.answer(request_id_of(None), prebuilt=self._safety))
        except GoneError:
            pass
