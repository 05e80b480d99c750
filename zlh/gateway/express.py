"""The fast lane to programs in containers: plain requests by regulars are passed on where their bytes arrive, without
waking a task for each; their answers come back the same way.

A client is on the lane for as long as everything is plain. What is not goes to the door as if there were no lane: a
request before anything of it was sent, an answer before anything of it was passed on. Every limit, interruption and
right holds here as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import inf

import trio

from zlh.gateway.client import Client, State
from zlh.gateway.connection import READ_SIZE, GoneError, Interrupted, Reason
from zlh.gateway.doors import Tools
from zlh.gateway.listener import Listener
from zlh.gateway.plain_answers import PlainAnswers, UnusualError
from zlh.gateway.plain_requests import Known, PlainRequests
from zlh.gateway.refusals import new_request_id
from zlh.gateway.relay import pass_counted
from zlh.gateway.upstream import Upstream
from zlh.ide import House, Place, Regular
from zlh.model.errors import ProblemError
from zlh.wire.http import HEAD_END


@dataclass(frozen=True, slots=True)
class Asked:
    """A plain request that was sent to `upstream`, and what comes back is not plain. `finish` the regular's `cut`
    once it was answered."""

    raw: bytes
    request_id: bytes
    upstream: Upstream
    regular: Regular
    cut: partial[None]


class Express:
    """The lane, and what all on it share."""

    def __init__(self, tools: Tools, house: House, listener: Listener) -> None:
        self.tools = tools
        self.listener = listener
        self.requests = PlainRequests(house, tools.proxies)
        self.answers = PlainAnswers(Place(0, prefix=b"" if house.names.by_host else b"/ide/0"))
        tools.watch.on_tick(self.requests.regulars.tick)

    async def serve(self, client: Client) -> Asked | None:
        """Answers the plain requests of one who is at a program. What comes after those, if it is not returned, is
        read as usual. Raises CutError, GoneError, Interrupted."""
        if not client.at_program or client.buffer or client.last:
            return None
        return await _Ride(self, client).run()


def cut_off(client: Client) -> None:
    """Ends a request in the middle: what it was for is not permitted any more."""
    client.interrupt(Reason.ENDING)
    if client.on_hangup is not None:
        client.on_hangup()


class _Ride:
    """One client's time on the lane. It has one request at a time under way: that is when there is an upstream."""

    __slots__ = (
        "_answers",
        "_arrivals",
        "_client",
        "_cut",
        "_deaf",
        "_failure",
        "_known",
        "_lane",
        "_over",
        "_pool",
        "_raw",
        "_request_id",
        "_requests",
        "_rest",
        "_upstream",
        "_watch",
    )

    def __init__(self, lane: Express, client: Client) -> None:
        self._lane = lane
        self._client = client
        self._requests = lane.requests
        self._answers = lane.answers
        self._watch = lane.tools.watch
        self._arrivals = lane.tools.watch.arrivals
        self._pool = lane.tools.relay.pool
        self._cut = partial(cut_off, client)
        self._over = trio.Event()
        self._failure: Exception | None = None
        self._deaf = False
        self._upstream: Upstream | None = None
        self._known: Known | None = None
        self._raw = self._request_id = b""
        # Of an answer: what the client did not take at once, and how many bytes are still to come.
        self._rest: tuple[bytes, int] | None = None

    async def run(self) -> Asked | None:
        client = self._client
        client.deadline = self._watch.now + client.limits.idle_seconds
        client.on_interrupt = self._leave
        client.on_hangup = self._hung_up
        self._arrivals.listen(client, self._request_came)
        try:
            while True:
                await self._over.wait()
                if self._failure is not None:
                    raise self._failure
                if self._upstream is None:
                    return None
                if client.interrupted is not None:
                    raise Interrupted(client.interrupted)
                if self._rest is None:
                    return self._asked()
                await self._pass_rest(*self._rest)
        finally:
            client.on_interrupt = client.on_hangup = None
            self._arrivals.ignore(client)
            self._give_up()

    def _leave(self) -> None:
        """The task goes on from here, with whatever there is."""
        self._arrivals.ignore(self._client)
        if self._upstream is not None:
            self._pool.release(self._upstream)
        self._over.set()

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._leave()

    def _hung_up(self) -> None:
        if self._upstream is not None:
            self._upstream.interrupt(Reason.CLIENT_GONE)

    # A request

    def _request_came(self) -> None:
        try:
            self._take_request()
        except Exception as error:  # noqa: BLE001 - raised in the task
            self._fail(error)

    def _take_request(self) -> None:
        client = self._client
        if self._upstream is not None:
            # More before it has its answer, or the end of what it says: that is looked at afterwards.
            self._arrivals.ignore(client)
            self._deaf = True
            return
        data = client.recv_nowait()
        if data is not None and (client.last or client.hung_up or not self._ask(data)):
            client.buffer = data
            self._leave()

    def _ask(self, data: bytes) -> bool:
        """Passes a plain request on. False where it is not, or cannot be sent at once: then nothing was done."""
        found = self._requests.read(self._client, data)
        if found is None:
            return False
        target, known = found
        try:
            destination = known.destination()
        except ProblemError:
            return False
        upstream = self._pool.take_nowait(destination, self._answer_came) if destination is not None else None
        if upstream is None:
            return False
        request_id = new_request_id()
        message = b"".join((b"GET ", target, known.rest, request_id, HEAD_END))
        if not _took(upstream, message):
            # Nobody acts on a part of a head.
            self._pool.drop(upstream)
            return False
        self._upstream, self._known, self._raw, self._request_id = upstream, known, data, request_id
        self._begin(upstream, known)
        return True

    def _begin(self, upstream: Upstream, known: Known) -> None:
        client = self._client
        self._lane.listener.busy(client)
        client.state = State.BUSY
        client.deadline = inf
        upstream.deadline = self._watch.now + (client.limits.answer_seconds or inf)
        upstream.on_interrupt = self._leave
        known.regular.begin(self._cut)

    # An answer

    def _answer_came(self) -> None:
        try:
            self._take_answer()
        except Exception as error:  # noqa: BLE001 - raised in the task
            self._fail(error)

    def _take_answer(self) -> None:
        upstream, client = self._upstream, self._client
        assert upstream is not None
        try:
            data = upstream.recv_nowait(READ_SIZE)
        except GoneError:
            data = b""
        if data is None:
            return
        if not data:
            self._ask_again()
            return
        end = data.find(HEAD_END)
        try:
            if end < 0 or client.last or client.interrupted is not None:
                raise UnusualError
            head, length = self._answers.read(data[:end])
        except UnusualError:
            upstream.buffer = data
            self._leave()
            return
        self._pass_on(upstream, head, data[end + len(HEAD_END) :], length)

    def _ask_again(self) -> None:
        """The idle connection was being closed, and nobody looked at the request: it goes the usual way."""
        self._client.buffer = self._raw
        self._give_up()
        self._leave()

    def _pass_on(self, upstream: Upstream, head: bytes, body: bytes, length: int) -> None:
        left = length - len(body)
        if left < 0:
            upstream.buffer = body[length:]
            body = body[:length]
        message = b"".join((head, b"x-request-id: ", self._request_id, HEAD_END, body))
        sent = self._client.send_nowait(message)
        upstream.deadline = inf
        if left <= 0 and sent == len(message):
            self._finish(upstream)
        else:
            self._rest = message[sent:], max(left, 0)
            self._pool.release(upstream)
            self._over.set()

    async def _pass_rest(self, message: bytes, left: int) -> None:
        upstream = self._upstream
        assert upstream is not None
        await pass_counted(upstream, self._client, message, left)
        self._rest = None
        self._over = trio.Event()
        self._finish(upstream)

    def _finish(self, upstream: Upstream) -> None:
        """The answer is complete."""
        client = self._client
        self._forget(upstream)
        self._pool.give(upstream)
        self._lane.tools.counters.requests += 1
        self._lane.listener.idle(client)
        client.state = State.IDLE
        client.deadline = self._watch.now + client.limits.idle_seconds
        if self._deaf or client.interrupted is not None:
            self._leave()

    def _asked(self) -> Asked:
        upstream, known = self._upstream, self._known
        assert upstream is not None
        assert known is not None
        upstream.on_interrupt = None
        self._pool.release(upstream)
        self._upstream = None
        return Asked(self._raw.removesuffix(HEAD_END), self._request_id, upstream, known.regular, self._cut)

    def _give_up(self) -> None:
        if self._upstream is not None:
            upstream = self._upstream
            self._forget(upstream)
            self._pool.drop(upstream)

    def _forget(self, upstream: Upstream) -> None:
        assert self._known is not None
        self._known.regular.finish(self._cut)
        upstream.on_interrupt = None
        upstream.deadline = inf
        self._upstream = None


def _took(upstream: Upstream, message: bytes) -> bool:
    try:
        return upstream.send_nowait(message) == len(message)
    except GoneError:
        return False
