"""Events are posted to endpoints, signed, and again with growing pauses while the answer is not 2xx.

    duplicates   each event is posted twice
    disorder     events wait for up to so many seconds and are posted in any order
    held         nothing is posted until that is over
    dropped      events are never posted
    skew         seconds by which the time in signatures is wrong

Signatures bear the wall clock's time, whatever was advanced: that is when the request is made.
"""

from __future__ import annotations

import fnmatch
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import httpx
import orjson
import trio

from zlh.simulators.stripe import names
from zlh.simulators.stripe.errors import Document
from zlh.simulators.stripe.signature import sign

PAUSES = (1.0, 5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0)
ANSWER_SECONDS = 10.0


@dataclass
class Endpoint:
    """`types` are names of events, with `*` for any."""

    url: str
    secrets: list[str]
    types: list[str] = field(default_factory=lambda: ["*"])
    id: str = field(default_factory=lambda: names.make("webhook_endpoint"))

    def wants(self, event: Document) -> bool:
        return any(fnmatch.fnmatchcase(event["type"], pattern) for pattern in self.types)


@dataclass
class Modes:
    duplicates: bool = False
    disorder: float | None = None
    held: bool = False
    dropped: bool = False
    skew: float = 0.0


@dataclass
class Delivery:
    """One event on its way to one endpoint."""

    endpoint: str
    event: Document
    attempts: int = 0


class Webhooks:
    """`pauses` are the seconds before each further attempt; after the last, an event is given up. `delivered` are the
    types and ids of what was taken, in that order."""

    def __init__(self, pauses: Sequence[float] = PAUSES, seed: int | None = None) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.modes = Modes()
        self.pauses = tuple(pauses)
        self.delivered: list[tuple[str, str]] = []
        self.attempts = 0
        self.given_up = 0
        self.on_change: Callable[[], None] = lambda: None
        self._random = random.Random(seed)
        self._waiting: list[Delivery] = []
        self._later: list[Delivery] = []
        self._flying = 0
        self._changed = trio.Event()
        self._hurry = trio.Event()

    def add(self, url: str, secrets: str | Iterable[str], types: Iterable[str] = ("*",)) -> Endpoint:
        """An endpoint of that URL is replaced."""
        chosen = [secrets] if isinstance(secrets, str) else list(secrets)
        known = next((one for one in self.endpoints.values() if one.url == url), None)
        endpoint = Endpoint(url, chosen, list(types))
        if known is not None:
            endpoint.id = known.id
        self.endpoints[endpoint.id] = endpoint
        self._wake()
        return endpoint

    def only(self, url: str, secrets: str | Iterable[str]) -> Endpoint:
        """There is no other endpoint from now on; what waits for those of before goes to this one."""
        endpoint = self.add(url, secrets)
        self.endpoints = {endpoint.id: endpoint}
        for delivery in (*self._waiting, *self._later):
            delivery.endpoint = endpoint.id
        return endpoint

    def post(self, event: Document) -> None:
        """To whoever wants it, when it is its turn."""
        if self.modes.dropped:
            return
        times = 2 if self.modes.duplicates else 1
        wanted = [one for one in self.endpoints.values() if one.wants(event)]
        event["pending_webhooks"] = len(wanted)
        for endpoint in wanted:
            for _ in range(times):
                self._waiting.append(Delivery(endpoint.id, event))
        self._wake()

    def change(
        self,
        *,
        duplicates: bool | None = None,
        disorder: float | None = None,
        held: bool | None = None,
        dropped: bool | None = None,
        skew: float | None = None,
    ) -> None:
        """What is given; `disorder=0` restores order."""
        wish = {"duplicates": duplicates, "held": held, "dropped": dropped, "skew": skew}
        for name, value in wish.items():
            if value is not None:
                setattr(self.modes, name, value)
        if disorder is not None:
            self.modes.disorder = disorder or None
        self._wake()

    def hurry(self) -> None:
        """Time has passed: what waits for its next attempt is tried at once."""
        hurry, self._hurry = self._hurry, trio.Event()
        hurry.set()

    @property
    def pending(self) -> int:
        """Deliveries that were neither taken nor given up."""
        return len(self._waiting) + len(self._later) + self._flying

    async def quiet(self) -> None:
        """Until nothing is on its way any more: all was taken or given up, or is held."""
        while self._later or self._flying or (self._waiting and not self.modes.held):
            await self._changed.wait()

    async def run(self) -> None:
        """Posts until cancelled."""
        # Endpoints are on loopback; certificates would take a tenth of a second to load.
        plain = httpx.AsyncClient(timeout=None, trust_env=False, verify=False)
        async with trio.open_nursery() as nursery, plain as client:
            while True:
                if self.modes.held or not self._waiting:
                    await self._changed.wait()
                    continue
                if self.modes.disorder is not None:
                    await self._shuffle(nursery, client, self.modes.disorder)
                    continue
                delivery = self._waiting.pop(0)
                self._flying += 1
                await self._attempt(nursery, client, delivery)

    async def _shuffle(self, nursery: trio.Nursery, client: httpx.AsyncClient, window: float) -> None:
        await trio.sleep(window)
        if self.modes.held:
            return
        gathered, self._waiting = self._waiting, []
        self._flying += len(gathered)
        self._random.shuffle(gathered)
        for delivery in gathered:
            await self._attempt(nursery, client, delivery)

    async def _attempt(self, nursery: trio.Nursery, client: httpx.AsyncClient, delivery: Delivery) -> None:
        """One of those that fly."""
        endpoint = self.endpoints.get(delivery.endpoint)
        delivery.attempts += 1
        # Time that passes while it is under way counts for the pause after it.
        hurry = self._hurry
        taken = endpoint is None or await self._send(client, endpoint, delivery.event)
        self._flying -= 1
        if taken:
            self.delivered.append((delivery.event["type"], delivery.event["id"]))
            delivery.event["pending_webhooks"] = max(0, delivery.event["pending_webhooks"] - 1)
        elif delivery.attempts > len(self.pauses):
            self.given_up += 1
        else:
            self._later.append(delivery)
            nursery.start_soon(self._again, delivery, self.pauses[delivery.attempts - 1], hurry)
        self._wake()

    async def _again(self, delivery: Delivery, pause: float, hurry: trio.Event) -> None:
        with trio.move_on_after(pause):
            await hurry.wait()
        self._later.remove(delivery)
        self._waiting.append(delivery)
        self._wake()

    async def _send(self, client: httpx.AsyncClient, endpoint: Endpoint, event: Document) -> bool:
        payload = orjson.dumps(event)
        self.attempts += 1
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": sign(payload, endpoint.secrets, int(time.time() + self.modes.skew)),
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        try:
            with trio.fail_after(ANSWER_SECONDS):
                response = await client.post(endpoint.url, content=payload, headers=headers)
        except (httpx.HTTPError, trio.TooSlowError):
            return False
        return response.is_success

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        self.on_change()

    def export(self) -> Document:
        # What flies when the process ends is not known to have arrived.
        waiting = [asdict(one) for one in [*self._waiting, *self._later]]
        return {"endpoints": [asdict(one) for one in self.endpoints.values()], "waiting": waiting}

    def load(self, state: Document, events: Mapping[str, Document]) -> None:
        """`events` are those that are known, by their id."""
        for row in state["endpoints"]:
            self.endpoints[row["id"]] = Endpoint(**row)
        self._waiting = [Delivery(**row) for row in state["waiting"]]
        for delivery in self._waiting:
            delivery.event = events.get(delivery.event["id"], delivery.event)
