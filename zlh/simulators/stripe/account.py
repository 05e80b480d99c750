"""A Stripe account: everything in it, and its time."""

from __future__ import annotations

from collections.abc import Callable

from zlh.simulators.stripe.alarms import Alarms
from zlh.simulators.stripe.book import Book
from zlh.simulators.stripe.cards import Cards
from zlh.simulators.stripe.clock import Clock, Line, line_of
from zlh.simulators.stripe.clocks import TestClocks
from zlh.simulators.stripe.customers import Customers
from zlh.simulators.stripe.disputes import Disputes
from zlh.simulators.stripe.dunning import Dunning
from zlh.simulators.stripe.errors import Document
from zlh.simulators.stripe.events import Events
from zlh.simulators.stripe.invoices import Invoices
from zlh.simulators.stripe.payments import Payments
from zlh.simulators.stripe.pending_updates import PendingUpdates
from zlh.simulators.stripe.portal import Portal
from zlh.simulators.stripe.preview import Preview
from zlh.simulators.stripe.prices import Prices
from zlh.simulators.stripe.schedules import Schedules
from zlh.simulators.stripe.sessions import Sessions
from zlh.simulators.stripe.subscriptions import Subscriptions
from zlh.simulators.stripe.suspension import Suspension
from zlh.simulators.stripe.tabs import Tabs
from zlh.simulators.stripe.updates import Updates
from zlh.simulators.stripe.version import VERSION


class Account:
    """`url` is where its pages are. Schedules come before subscriptions at the same moment, these before invoices."""

    def __init__(self, url: str, dunning: Dunning, invoice_wait: int, wall: Callable[[], float]) -> None:
        self.url = url
        self.version = VERSION
        self.dunning = dunning
        self.book = Book()
        self.clock = Clock(wall)
        self.alarms = Alarms(self.book, self.clock, self.line_of)
        self.events = Events(self)
        self.prices = Prices(self)
        self.cards = Cards(self)
        self.customers = Customers(self)
        self.clocks = TestClocks(self)
        self.schedules = Schedules(self)
        self.tabs = Tabs(self)
        self.subscriptions = Subscriptions(self)
        self.updates = Updates(self)
        self.pending_updates = PendingUpdates(self)
        self.suspension = Suspension(self)
        self.payments = Payments(self)
        self.invoices = Invoices(self, invoice_wait)
        self.preview = Preview(self)
        self.sessions = Sessions(self)
        self.portal = Portal(self)
        self.disputes = Disputes(self)
        self.book.on_change = self.alarms.watch
        self.book.on_event = self.events.happened

    def now_of(self, document: Document) -> int:
        """What time it is for what belongs to a customer."""
        return self.clock.now(self.line_of(document))

    def line_of(self, document: Document) -> Line:
        if "test_clock" in document:
            return line_of(document)
        owner = self.book.tables["customer"].get(str(document.get("customer")))
        return None if owner is None else line_of(owner)

    def now_of_event(self, event: Document) -> int:
        return self.clock.now(self.book.secret(event["id"]).get("line"))

    def catch_up(self) -> None:
        """What was due on the account's own line until now has happened."""
        self.alarms.ring(None, self.clock.now())

    def advance(self, seconds: float) -> None:
        self.catch_up()
        self.clock.offset += seconds
        self.catch_up()

    def export(self) -> Document:
        return {"book": self.book.export(), "offset": self.clock.offset, "frozen": self.clock.frozen}

    def load(self, state: Document) -> None:
        self.clock.offset = state["offset"]
        self.clock.frozen = state["frozen"]
        self.book.load(state["book"])
