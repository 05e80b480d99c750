"""Signed DNS messages over TCP, to one server."""

from __future__ import annotations

import binascii
import math
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import trio

from zlh.drivers.errors import DriverError, Invalid, Refused, Unreachable, Unsupported

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
AHEAD = 32
"""Questions that are asked before the first is answered (RFC 7766, 6.2.1.1)."""

_NOS = {
    dns.rcode.REFUSED: "it refuses that to our key",
    dns.rcode.NOTAUTH: "it does not take our key, or is not the zone's server",
    dns.rcode.NOTZONE: "a name is not inside the zone",
}
_REQUIREMENTS = {dns.rcode.YXDOMAIN, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.NXRRSET}


def tsig_key(name: str, secret: str, algorithm: str) -> dns.tsig.Key:
    """`secret` in base64, `algorithm` such as "hmac-sha256". Raises ValueError that does not repeat the secret."""
    if not name or not secret:
        raise ValueError("they are not set: nobody may change its zone")
    try:
        return dns.tsig.Key(name, secret, algorithm)
    except dns.exception.DNSException:
        raise ValueError("the key has no name that DNS takes") from None
    except (binascii.Error, ValueError):
        raise ValueError("the key is not base64") from None


class Server:
    """`host` is an IP address; everything that is said to it, and what it says, is signed with `key`."""

    def __init__(self, host: str, port: int, key: dns.tsig.Key) -> None:
        self._host = host
        self._port = port
        self._key = key

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """Raises Unreachable."""
        with _answered(CONNECT_SECONDS):
            stream = await trio.open_tcp_stream(self._host, self._port)
        async with stream:
            yield Connection(stream, self._key)


class Connection:
    def __init__(self, stream: trio.SocketStream, key: dns.tsig.Key) -> None:
        self._stream = stream
        self._key = key
        self._received = bytearray()
        self._id = 0

    async def ask(self, questions: Sequence[dns.message.Message]) -> list[dns.message.Message]:
        """Their answers, NOERROR or NXDOMAIN, in the same order. Raises DriverError."""
        answers = []
        for start in range(0, len(questions), AHEAD):
            for answer in await self._exchange(questions[start : start + AHEAD]):
                if answer.rcode() != dns.rcode.NXDOMAIN:
                    _check(answer)
                answers.append(answer)
        return answers

    async def update(self, updates: Sequence[dns.message.Message]) -> list[bool]:
        """For each whether what it requires was so, and it was made. Raises DriverError."""
        made = []
        try:
            for start in range(0, len(updates), AHEAD):
                for answer in await self._exchange(updates[start : start + AHEAD]):
                    required = answer.rcode() not in _REQUIREMENTS
                    if required:
                        _check(answer)
                    made.append(required)
        except (Unreachable, Invalid) as error:
            error.may_have_happened = True
            raise
        return made

    async def transfer(self, zone: dns.name.Name, take: Callable[[dns.rrset.RRset], None]) -> None:
        """Every RRset of the zone is given to `take`, in another thread; one after the other, and of one RRset
        perhaps several parts. Raises DriverError; then it was not the whole zone."""
        failure: DriverError | None = None
        question = dns.message.make_query(zone, dns.rdatatype.AXFR, flags=0)
        with _answered():
            await self._stream.send_all(self._signed(question))
        transfer = _Transfer(question, take)
        async with trio.open_nursery() as nursery:
            arrived, messages = trio.open_memory_channel[bytes | DriverError](math.inf)
            nursery.start_soon(self._receive_all, arrived)
            while not transfer.done and failure is None:
                message = await messages.receive()
                failure = message if isinstance(message, DriverError) else await _off_the_loop(transfer, message)
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _receive_all(self, arrived: trio.MemorySendChannel[bytes | DriverError]) -> None:
        """However long each takes to be read: servers break off where nobody listens for half a second."""
        try:
            while True:
                with _answered():
                    data = await self._receive()
                arrived.send_nowait(data)
        except DriverError as error:
            arrived.send_nowait(error)

    async def _exchange(self, requests: Sequence[dns.message.Message]) -> list[dns.message.Message]:
        data = b"".join([self._signed(request) for request in requests])
        waiting = {request.id: request for request in requests}
        answers = {}
        with _answered():
            await self._stream.send_all(data)
        while waiting:
            with _answered():
                data = await self._receive()
                request = waiting.pop(int.from_bytes(data[:2], "big"), None)
                if request is None:
                    raise Invalid("it answered what was not asked")
                answers[request.id] = _read(data, request)
        return [answers[request.id] for request in requests]

    def _signed(self, message: dns.message.Message) -> bytes:
        self._id = self._id % 0xFFFF + 1
        message.id = self._id
        message.use_tsig(self._key)
        return bytes(message.to_wire(prepend_length=True))

    async def _receive(self) -> bytes:
        (length,) = struct.unpack("!H", await self._exactly(2))
        return await self._exactly(length)

    async def _exactly(self, count: int) -> bytes:
        while len(self._received) < count:
            data = await self._stream.receive_some()
            if not data:
                raise EOFError
            self._received += data
        data = bytes(self._received[:count])
        del self._received[:count]
        return data


class _Transfer:
    def __init__(self, question: dns.message.Message, take: Callable[[dns.rrset.RRset], None]) -> None:
        self._question = question
        self._take = take
        self._context: dns.tsig.HMACTSig | dns.tsig.GSSTSig | None = None
        self._begun = False
        self.done = False

    def read(self, data: bytes) -> None:
        """One message of it. A zone begins and ends with its SOA (RFC 5936, 2.2); the last message is signed, those
        between need not be (RFC 8945, 5.3.1)."""
        message = dns.message.from_wire(
            data,
            keyring=self._question.keyring,
            request_mac=self._question.mac,
            xfr=True,
            tsig_ctx=self._context,
            multi=True,
        )
        self._context = message.tsig_ctx
        _check(message)
        if not self._question.is_response(message, xfr_continuation=self._begun):
            raise Invalid("it answered what was not asked")
        for rrset in message.answer:
            self._one(rrset)
        if not self._begun:
            raise Invalid("it sent no zone")
        if self.done and not message.had_tsig:
            raise Invalid("its answer is not signed")

    def _one(self, rrset: dns.rrset.RRset) -> None:
        if self.done or (rrset.rdtype == dns.rdatatype.SOA) == self._begun is False:
            raise Invalid("what it sent is not a zone")
        if rrset.rdtype == dns.rdatatype.SOA:
            self.done, self._begun = self._begun, True
        else:
            self._take(rrset)


async def _off_the_loop(transfer: _Transfer, message: bytes) -> DriverError | None:
    """There may be thousands of records in it: the others are served meanwhile."""
    try:
        with _answered():
            await trio.to_thread.run_sync(transfer.read, message)
    except DriverError as error:
        return error
    return None


def _read(data: bytes, request: dns.message.Message) -> dns.message.Message:
    answer = dns.message.from_wire(data, keyring=request.keyring, request_mac=request.mac)
    if not request.is_response(answer):
        raise Invalid("it answered what was not asked")
    if answer.flags & dns.flags.TC:
        raise Invalid("its answer was cut off")
    if answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) and not answer.had_tsig:
        raise Invalid("its answer is not signed")
    return answer


def _check(answer: dns.message.Message) -> None:
    rcode = answer.rcode()
    if rcode == dns.rcode.NOERROR:
        return
    name = dns.rcode.to_text(rcode)
    if rcode in _NOS:
        raise Refused(f"{_NOS[rcode]} ({name})", status=int(rcode))
    if rcode == dns.rcode.SERVFAIL:
        raise Unreachable(f"it cannot answer ({name})")
    if rcode == dns.rcode.NOTIMP:
        raise Unsupported(f"it knows no such request ({name})")
    raise Invalid(f"it answered {name}")


@contextmanager
def _answered(seconds: float | None = None) -> Iterator[None]:
    """What goes wrong between us and the server, as a DriverError."""
    seconds = ANSWER_SECONDS if seconds is None else seconds
    try:
        with trio.fail_after(seconds):
            yield
    except DriverError:
        raise
    except trio.TooSlowError:
        raise Unreachable(f"no answer within {seconds:g} s") from None
    except (OSError, EOFError, trio.BrokenResourceError) as error:
        raise Unreachable(_went_wrong(error)) from error
    except dns.tsig.PeerError as error:
        raise Refused(f"it does not take our key: {error}", status=int(dns.rcode.NOTAUTH)) from error
    except (dns.tsig.BadSignature, dns.tsig.BadKey, dns.tsig.BadTime, dns.message.UnknownTSIGKey) as error:
        raise Invalid("its answer is not signed with our key, or its clock and ours differ") from error
    except (dns.exception.DNSException, struct.error, ValueError) as error:
        raise Invalid(f"its answer is not DNS: {type(error).__name__}") from error


def _went_wrong(error: Exception) -> str:
    if isinstance(error, (EOFError, trio.BrokenResourceError)):
        return "it closed the connection"
    return f"it does not answer: {getattr(error, 'strerror', None) or 'no connection'}"
