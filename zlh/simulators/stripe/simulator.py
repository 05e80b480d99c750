"""The simulated Stripe: its API, its pages, its webhooks, and what people and tests do to it."""

from __future__ import annotations

import fnmatch
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path
from typing import Any

import trio

from zlh.simulators.agent.http import Request, Response, json_response
from zlh.simulators.far import FarSystem, Fault
from zlh.simulators.stripe import names, webhooks
from zlh.simulators.stripe.account import Account
from zlh.simulators.stripe.api import WORDS_429, WORDS_500, Api, render
from zlh.simulators.stripe.cards import Card
from zlh.simulators.stripe.checkout_page import PATH as CHECKOUT
from zlh.simulators.stripe.checkout_page import CheckoutPage
from zlh.simulators.stripe.clock import Line
from zlh.simulators.stripe.control import obey
from zlh.simulators.stripe.dunning import Dunning
from zlh.simulators.stripe.errors import Document, Wrong
from zlh.simulators.stripe.pages import page
from zlh.simulators.stripe.periods import DAY
from zlh.simulators.stripe.portal_page import INVOICE_PATH, InvoicePage, PortalPage
from zlh.simulators.stripe.portal_page import PATH as PORTAL
from zlh.simulators.stripe.prices import Price
from zlh.simulators.stripe.returned_page import PATH as RETURNED
from zlh.simulators.stripe.returned_page import returned
from zlh.simulators.stripe.webhooks import Webhooks

KEY = "sk_test_simulated"
HOUR = 3600
LONGEST_NAP = 3600.0


class SimulatedStripe(FarSystem):
    """`invoice_wait` is how long a renewal's invoice stays a draft, `webhook_pauses` are those between attempts,
    `state` is a file in which everything is kept. It runs in `run`; what its methods do, happens at once."""

    def __init__(
        self,
        key: str = KEY,
        prices: Iterable[Price] = (),
        port: int = 0,
        *,
        dunning: Dunning | None = None,
        invoice_wait: int = HOUR,
        webhook_pauses: Sequence[float] = webhooks.PAUSES,
        state: Path | None = None,
        wall: Callable[[], float] = time.time,
        seed: int | None = None,
    ) -> None:
        super().__init__(port)
        self.account = Account(self.url, dunning or Dunning(), invoice_wait, wall)
        self.webhooks = Webhooks(webhook_pauses, seed)
        self.api = Api(self.account, key, super().delay, self.spend)
        self._checkout = CheckoutPage(self.account)
        self._portal = PortalPage(self.account)
        self._invoice = InvoicePage(self.account)
        self._state = state
        self._saved = -1
        self._news = 0
        self._nudged = trio.Event()
        if state is not None and state.exists():
            self._load(json.loads(state.read_text()))
        for price in prices:
            self.account.prices.plant(price)
        self.account.events.on_event = self.webhooks.post
        self.account.clocks.on_advance = self._nudge
        self.webhooks.on_change = self._nudge

    async def run(self) -> None:
        """Serves, lets time pass, and posts webhooks, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(super().run)
                nursery.start_soon(self.webhooks.run)
                nursery.start_soon(self._live)
        finally:
            self._save()

    async def _live(self) -> None:
        while True:
            self.account.clocks.finish()
            self.account.catch_up()
            self._save()
            due = self.account.alarms.next()
            nap = LONGEST_NAP if due is None else min(LONGEST_NAP, max(0.05, due - self.now() + 0.5))
            with trio.move_on_after(nap):
                await self._nudged.wait()

    def _nudge(self) -> None:
        self._news += 1
        nudged, self._nudged = self._nudged, trio.Event()
        nudged.set()

    # Time

    def now(self, test_clock: Line = None) -> int:
        return self.account.clock.now(test_clock)

    def advance(self, seconds: float, test_clock: Line = None) -> None:
        """So much time passes, and all that is due happens; webhooks are posted from then on. With a test clock only
        its time, however far."""
        if test_clock is None:
            self.account.advance(seconds)
        else:
            self.account.clocks.move(self.account.clocks.retrieve(test_clock), self.now(test_clock) + int(seconds))
        self.webhooks.hurry()
        self._nudge()

    # What people do

    def pay(self, session: str, card: Card = Card.WORKS) -> Document:
        """On the page of a checkout session, which is then complete. Raises Wrong(402) where the card does not work,
        Wrong(400) where the session is not open."""
        self.account.catch_up()
        return self._done(self.account.sessions.pay(session, card))

    def decline(self, session: str) -> None:
        """They try to pay with a card that is declined; nothing changes."""
        try:
            self.pay(session, Card.DECLINED)
        except Wrong:
            return

    def set_card(self, customer: str, card: Card) -> None:
        """The bank's mind about the card that is there; nobody is told."""
        self.account.cards.mark(customer, card)
        self._nudge()

    def fix_card(self, customer: str) -> None:
        """They give a new card in the portal, and what is open is paid."""
        self.account.catch_up()
        self.account.portal.fix_card(customer)
        self._nudge()

    def cancel(self, subscription: str) -> None:
        """They cancel in the portal, for the end of the period."""
        self.account.catch_up()
        self.account.portal.cancel(subscription)
        self._nudge()

    def resume(self, subscription: str) -> None:
        """They take that back in the portal."""
        self.account.catch_up()
        self.account.portal.go_on(subscription)
        self._nudge()

    def dispute(self, customer: str, reason: str = "fraudulent") -> Document:
        """They deny their last charge at the bank."""
        self.account.catch_up()
        return self._done(self.account.disputes.open(customer, reason))

    # What tests look at

    @property
    def events(self) -> list[Document]:
        """Whatever happened since it was made, also what the API has forgotten since; the oldest first."""
        return self.account.events.told

    def of(self, kind: str, **wanted: Any) -> list[Document]:
        """Objects as they are, such as `of("subscription", customer=...)`; the oldest first."""
        return self.account.book.all(kind, **wanted)

    def redeliver(self, days: float, types: Iterable[str] = ("*",)) -> int:
        """The events of the last days are posted again; how many these are."""
        patterns = list(types)
        chosen = [
            event
            for event in self.account.events.kept()
            if event["created"] >= self.account.now_of_event(event) - days * DAY
            and any(fnmatch.fnmatchcase(event["type"], pattern) for pattern in patterns)
        ]
        for event in chosen:
            self.webhooks.post(event)
        return len(chosen)

    def state(self) -> dict[str, Any]:
        counts = {kind: len(table) for kind, table in self.account.book.tables.items() if table}
        return {"now": self.now(), "objects": counts, "webhooks": {"pending": self.webhooks.pending}}

    # Requests

    async def delay(self) -> None:
        """Slowness comes later, when an idempotency key is already taken."""

    async def answer(self, request: Request) -> Response:
        if request.path.startswith("/v1"):
            response = await self.api.answer(request)
        else:
            response = await self._page(request)
        self._save()
        self._nudge()
        return response

    async def _page(self, request: Request) -> Response:
        self.account.catch_up()
        await request.body()
        try:
            if request.path.startswith(CHECKOUT):
                said = request.query.get("said", "")
                return self._checkout.answer(request.method, request.path.removeprefix(CHECKOUT), said)
            if request.path.startswith(PORTAL):
                return self._portal.answer(request.method, request.path.removeprefix(PORTAL))
            if request.path.startswith(INVOICE_PATH):
                return self._invoice.answer(request.method, request.path.removeprefix(INVOICE_PATH))
            if request.path == RETURNED:
                return returned(request.query.get("checkout", ""))
        except Wrong as wrong:
            words = escape(str(wrong))
            return page("Not here", f'<section class="card"><h1>{words}</h1></section>', wrong.status)
        return page("Not here", '<section class="card"><h1>There is no such page.</h1></section>', 404)

    async def control(self, request: Request) -> Response:
        command = request.path.removeprefix("/simulator/")
        if request.method == "POST":
            wish = await request.json()
            if command != "faults" or wish.get("fault") == "card_declined":
                done = obey(self, command, wish)
                self._save()
                return json_response(done)
            self.set_fault(Fault.parse(wish))
            return json_response({})
        return await super().control(request)

    def changes(self, request: Request) -> bool:
        return request.method != "GET" and request.path.startswith("/v1")

    def refused(self) -> Response:
        return render(
            names.make("request"), 401, Wrong(401, "Expired API Key provided.", code="api_key_expired").document()
        )

    def broken(self) -> Response:
        return render(names.make("request"), 500, {"error": {"message": WORDS_500, "type": "api_error"}})

    def too_many(self) -> Response:
        wrong = Wrong(429, WORDS_429, code="rate_limit")
        return render(
            names.make("request"), 429, wrong.document(), extra=(("Stripe-Rate-Limited-Reason", "global-rate"),)
        )

    # What is kept

    def _done(self, document: Document) -> Document:
        self._nudge()
        return document

    def _save(self) -> None:
        version = self.account.book.changes + self._news
        if self._state is None or version == self._saved:
            return
        self._saved = version
        kept = {
            "account": self.account.export(),
            "idempotency": self.api.idempotency.export(),
            "webhooks": self.webhooks.export(),
        }
        half = self._state.with_suffix(".new")
        half.write_text(json.dumps(kept))
        os.replace(half, self._state)

    def _load(self, kept: Document) -> None:
        self.account.load(kept["account"])
        self.account.events.told = self.account.events.kept()
        self.api.idempotency.load(kept["idempotency"])
        self.webhooks.load(kept["webhooks"], self.account.book.tables["event"])


@asynccontextmanager
async def open_stripe(
    prices: Iterable[Price] = (), *, key: str = KEY, port: int = 0, **more: Any
) -> AsyncIterator[SimulatedStripe]:
    """One that runs inside the block."""
    async with trio.open_nursery() as nursery:
        stripe = SimulatedStripe(key, prices, port, **more)
        nursery.start_soon(stripe.run)
        try:
            yield stripe
        finally:
            nursery.cancel_scope.cancel()
