"""Mail servers on loopback: aiosmtpd's, in a thread of its own, and some that do not behave."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTPUTF8
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

USERNAME, PASSWORD = "zlh", "a mail password"


@dataclass
class Post:
    """Keeps what it is sent. `recipient` and `data` are answered instead of taking it, when they are set."""

    recipient: str | None = None
    data: str | None = None
    taken: list[Envelope] = field(default_factory=list)

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.recipient is not None:
            return self.recipient
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        if self.data is not None:
            return self.data
        self.taken.append(envelope)
        return "250 taken"

    def message(self, index: int = -1) -> EmailMessage:
        message = message_from_bytes(self.taken[index].original_content or b"", policy=SMTPUTF8)
        assert isinstance(message, EmailMessage)
        return message


@contextmanager
def open_server(post: Post, port: int = 0, **options: Any) -> Iterator[int]:
    """Yields the port."""
    chosen = port or free_port()
    controller = Controller(post, hostname="127.0.0.1", port=chosen, ident="test", **options)
    controller.start()
    try:
        yield chosen
    finally:
        controller.stop()


def with_tls(certificate: str, key: str, **options: Any) -> dict[str, Any]:
    """Options of a server that wants STARTTLS and a sign-in before anything else."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return {
        "tls_context": context,
        "require_starttls": True,
        "authenticator": _authenticate,
        "auth_required": True,
        **options,
    }


def _authenticate(server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
    assert isinstance(given, LoginPassword)
    good = (given.login, given.password) == (USERNAME.encode(), PASSWORD.encode())
    return AuthResult(success=good, handled=False)


@contextmanager
def open_rough(behave: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """A server that does what `behave` does with each connection, until the event; yields the port."""
    over = threading.Event()
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def behave_until_it_breaks(connection: socket.socket) -> None:
        try:
            behave(connection, over)
        except OSError:
            pass
        finally:
            connection.close()

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            thread = threading.Thread(target=behave_until_it_breaks, args=(connection,))
            threads.append(thread)
            thread.start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                connection.close()
            acceptor.join()
            for thread in threads:
                thread.join()


def silent(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


def dripping(connection: socket.socket, over: threading.Event) -> None:
    """Always says something, so that no single wait is long, and never says it all."""
    while not over.wait(0.05):
        connection.sendall(b"220-")


def hanging_up_in_data(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"220 hello\r\n")
    file = connection.makefile("rb")
    while not over.is_set():
        line = file.readline()
        if not line:
            return
        if line.upper().startswith(b"DATA"):
            connection.sendall(b"354 go on\r\n")
            file.readline()
            file.close()
            return
        connection.sendall(b"250 OK\r\n")


def refusing_everybody(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"554 nobody is served here\r\n")
    over.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
