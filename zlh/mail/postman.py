"""Delivers what is in the outbox: at least once, and not twice at the same time, however many processes do it.

A letter is forgotten once the server took it. Who dies in between, or loses the database, has sent a letter that will
be sent again: with the same Message-ID, by which mailboxes know it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import trio

from zlh.drivers.errors import DriverError, Refused
from zlh.drivers.mail import Message
from zlh.mail.backoff import next_try
from zlh.store import Database, StoreUnavailable, outbox
from zlh.store.listener import listen
from zlh.store.notify import OUTBOX
from zlh.store.outbox import Due, Letter

log = logging.getLogger("zlh.mail")

BEAT_SECONDS: Final = 15.0
"""Letters that wait for another try, or whose process died, are looked for this often."""
AT_ONCE: Final = 4


class Transport(Protocol):
    """How messages leave."""

    async def send(self, message: Message) -> str:
        """Says what became of it. Raises Refused where that is final, other DriverErrors where it is not."""


class Postman:
    """`send_seconds` is the longest that the transport takes for one message; `annotate` shows figures to
    operators: owed (waiting), sent and failed (attempts) since the start, given_up."""

    def __init__(
        self,
        database: Database,
        transport: Transport,
        *,
        send_seconds: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._transport = transport
        # Longer than a delivery can take with all that the database may wait: a lease that ends early sends twice.
        self._lease = timedelta(seconds=2 * send_seconds + 120)
        self._now = now
        self._news = trio.Event()
        self._sent = self._failed = self._given_up = 0

    async def run(self, annotate: Callable[..., None]) -> None:
        """Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            while True:
                # Before looking: news that come while we look are news.
                self._news = trio.Event()
                try:
                    while await self.round():
                        await self._show(annotate)
                    await self._show(annotate)
                except StoreUnavailable as error:
                    log.warning("mail waits for the database: %s", error)
                with trio.move_on_after(BEAT_SECONDS):
                    await self._news.wait()

    async def round(self) -> int:
        """Tries the letters that are due, a few at once; how many there were. Raises StoreUnavailable."""
        taken = await self._database.run(outbox.take, self._now(), most=AT_ONCE, lease=self._lease)
        async with trio.open_nursery() as nursery:
            for due in taken:
                nursery.start_soon(self._deliver, due)
        return len(taken)

    async def _show(self, annotate: Callable[..., None]) -> None:
        owed = await self._database.run(outbox.owed)
        annotate(owed=owed, sent=self._sent, failed=self._failed, given_up=self._given_up)

    async def _listen(self) -> None:
        async with listen(self._database.url, OUTBOX) as events:
            async for _ in events:
                self._news.set()

    async def _deliver(self, due: Due) -> None:
        try:
            await self._try(due)
        except StoreUnavailable as error:
            # The lease ends by itself, and the letter is tried again.
            log.warning("letter %d (%s) will be looked at again: %s", due.id, due.kind, error)

    async def _try(self, due: Due) -> None:
        if due.letter is None:
            await self._give_up(due, "no key of this installation opens it")
            return
        try:
            outcome = await self._transport.send(_message(due, due.letter))
        except Refused as refused:
            await self._give_up(due, " ".join([refused.message, *refused.details.values()]), shown=refused.message)
        except DriverError as error:
            await self._put_off(due, error.message)
        else:
            self._sent += 1
            log.info("letter %d (%s): %s", due.id, due.kind, outcome)
            await self._database.run(outbox.delivered, due)

    async def _put_off(self, due: Due, error: str) -> None:
        again = next_try(due.created_at, due.attempts, self._now(), random.random())  # noqa: S311 - jitter
        if again is None:
            await self._give_up(due, error)
            return
        self._failed += 1
        log.warning("letter %d (%s) is tried again at %s: %s", due.id, due.kind, f"{again:%H:%M:%S} UTC", error)
        await self._database.run(outbox.put_off, due, again, error)

    async def _give_up(self, due: Due, error: str, *, shown: str | None = None) -> None:
        """`shown` is what the log may have of it: the server's own words often name the recipient."""
        self._failed += 1
        self._given_up += 1
        log.error("letter %d (%s) is given up: %s", due.id, due.kind, shown or error)
        await self._database.run(outbox.give_up, due, self._now(), error)


def _message(due: Due, letter: Letter) -> Message:
    return Message(due.id, due.kind, letter.recipient, letter.subject, letter.text, due.created_at)
