"""E-mail by a submission server (RFC 6409), with smtplib in threads of their own number.

What the server says about a message (it, or its recipient, is refused with 5xx) is final: Refused. All else may be
different next time, a wrong password and a refused sender too: those are nothing that the message could help.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from enum import StrEnum

import trio

from zlh.drivers.errors import DriverError, Refused, Unreachable
from zlh.drivers.mail.message import NOT_ALLOWED, Message, compose

LONGEST_REPLY = 200


class Security(StrEnum):
    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Server:
    """`username` empty: no authentication. `seconds` is what one operation on the connection may take."""

    host: str
    port: int
    security: Security
    username: str
    password: str = field(repr=False)
    seconds: float
    tls: ssl.SSLContext


class Smtp:
    """Sends each message over a connection of its own, which may take `seconds`, at most `threads` at once.

    Certificates are checked against `tls`, the system's CAs by default. Where the encryption that was asked for is
    not to be had, nothing is sent.
    """

    def __init__(
        self,
        host: str,
        port: int,
        sender: Address,
        *,
        security: Security = Security.STARTTLS,
        username: str = "",
        password: str = "",
        seconds: float = 30.0,
        threads: int = 4,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        context = tls or ssl.create_default_context()
        self._server = Server(host, port, security, username, password, seconds, context)
        self._sender = sender
        self._limiter = trio.CapacityLimiter(threads)

    async def send(self, message: Message) -> str:
        """Returns when the server has taken the message. Raises Refused (`details["reply"]` has the server's words)
        and Unreachable; cancelled or too slow, the connection is cut, and the message may have been taken all the
        same."""
        delivery = _Delivery(self._server, compose(message, self._sender), self._sender.addr_spec, message.recipient)
        try:
            with trio.fail_after(self._server.seconds):
                await trio.to_thread.run_sync(delivery.run, abandon_on_cancel=True, limiter=self._limiter)
        except trio.TooSlowError:
            raise Unreachable(
                f"the mail server was not done within {self._server.seconds:g} s", may_have_happened=True
            ) from None
        finally:
            delivery.cut()
        return f"taken by {self._server.host}"


class _Delivery:
    """One message over one connection; `run` in a thread, `cut` from outside."""

    def __init__(self, server: Server, composed: EmailMessage, sender: str, recipient: str) -> None:
        self._server = server
        self._composed = composed
        self._sender = sender
        self._recipient = recipient
        self._smtp: smtplib.SMTP | None = None
        self._over = False

    def run(self) -> None:
        try:
            self._open()
        except (OSError, UnicodeError, smtplib.SMTPException) as error:
            self._close()
            raise Unreachable(_sentence(error)) from error
        try:
            self._send()
        except (OSError, smtplib.SMTPException) as error:
            raise _judged(error) from error
        finally:
            self._close()

    def cut(self) -> None:
        """Ends what still runs: a thread that nobody waits for would hold its place as long as the server likes."""
        self._over = True
        sock = self._smtp.sock if self._smtp is not None else None
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already

    def _open(self) -> None:
        server = self._server
        if server.security is Security.TLS:
            self._smtp = smtplib.SMTP_SSL(timeout=server.seconds, context=server.tls)
        else:
            self._smtp = smtplib.SMTP(timeout=server.seconds)
        # The name that the certificate is checked against; smtplib knows it only where the constructor connects.
        self._smtp._host = server.host  # type: ignore[attr-defined]
        code, reply = self._smtp.connect(server.host, server.port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, reply)
        if self._over:
            raise OSError("it is over")
        if server.security is Security.STARTTLS:
            self._smtp.starttls(context=server.tls)
        if server.username:
            self._smtp.login(server.username, server.password)

    def _send(self) -> None:
        assert self._smtp is not None
        self._smtp.send_message(self._composed, self._sender, [self._recipient])

    def _close(self) -> None:
        """Takes leave without waiting for an answer: a server that is slow to say goodbye has the message all the
        same."""
        if self._smtp is None:
            return
        try:
            self._smtp.putcmd("quit")
        except (OSError, smtplib.SMTPException):
            pass  # it is gone already
        self._smtp.close()


def _judged(error: Exception) -> DriverError:
    """What an error while sending means for the message."""
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return Refused("the mail server takes no address with other letters than ASCII's", status=NOT_ALLOWED)
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, reply = next(iter(error.recipients.values()))
        return _answered("the recipient", code, reply)
    if isinstance(error, smtplib.SMTPDataError):
        return _answered("the message", error.smtp_code, error.smtp_error)
    return Unreachable(_sentence(error), may_have_happened=True)


def _answered(what: str, code: int, reply: bytes | str) -> DriverError:
    sentence = f"the mail server refused {what}: {code}"
    if code >= 500:
        return Refused(sentence, status=code, details={"reply": _words(reply)})
    return Unreachable(sentence)


def _sentence(error: Exception) -> str:
    """One line without what the server echoes: that could be the recipient's address, or a password."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the mail server refused our user name or password: {error.smtp_code}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the mail server refused to serve us: {error.smtp_code}"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "the mail server offers no STARTTLS or no authentication, which the settings want"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the mail server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "the mail server hung up"
    reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return f"the mail server cannot be reached: {reason}"


def _words(reply: bytes | str) -> str:
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
    return " ".join(text.split())[:LONGEST_REPLY]
