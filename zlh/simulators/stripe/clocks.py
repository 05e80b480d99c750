"""Test clocks: customers whose time stands still until somebody advances it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zlh.simulators.stripe import lists, names, periods
from zlh.simulators.stripe.errors import Document, Wrong, invalid
from zlh.simulators.stripe.form import Wish
from zlh.simulators.stripe.subscription import ENDED

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

KIND = "test_helpers.test_clock"
LIVES = 30 * periods.DAY


class TestClocks:
    """`on_advance` is called when there is something for `finish` to do."""

    __test__ = False

    def __init__(self, account: Account) -> None:
        self._account = account
        self.on_advance: Callable[[], None] = lambda: None

    def create(self, wish: Wish) -> Document:
        frozen, name = wish.integer("frozen_time"), wish.text("name")
        wish.finish()
        if frozen is None:
            raise invalid("frozen_time", "Missing required param: frozen_time.", "parameter_missing")
        now = self._account.clock.now()
        clock: Document = {
            "id": names.make(KIND),
            "object": KIND,
            "created": now,
            "deletes_after": now + LIVES,
            "frozen_time": frozen,
            "livemode": False,
            "name": name or None,
            "status": "ready",
            "status_details": {},
        }
        self._account.clock.frozen[clock["id"]] = frozen
        return self._account.book.add(clock, f"{KIND}.created")

    def retrieve(self, name: str) -> Document:
        return self._account.book.find(KIND, name)

    def listing(self, wish: Wish) -> Document:
        rows = self._account.book.all(KIND)
        return lists.page(rows, wish, "/v1/test_helpers/test_clocks", rows)

    def advance(self, name: str, wish: Wish) -> Document:
        """`status` is `advancing` until it is done."""
        clock = self.retrieve(name)
        target = wish.integer("frozen_time")
        wish.finish()
        if target is None:
            raise invalid("frozen_time", "Missing required param: frozen_time.", "parameter_missing")
        if clock["status"] != "ready":
            words = "Test clock advancement underway. Wait until it is ready before advancing it again."
            raise Wrong(429, words, code="rate_limit")
        if target <= clock["frozen_time"]:
            raise invalid("frozen_time", "The frozen time must be after the test clock's current frozen time.")
        if target > self._farthest(clock):
            words = "You can only advance a test clock by two intervals of its shortest subscription at a time."
            raise invalid("frozen_time", words)
        with self._account.book.changing(clock, f"{KIND}.advancing"):
            clock["status"] = "advancing"
            clock["status_details"] = {"advancing": {"target_frozen_time": target}}
        self.on_advance()
        return clock

    def finish(self) -> None:
        """Clocks that are advancing arrive."""
        for clock in self._account.book.all(KIND, status="advancing"):
            self.move(clock, clock["status_details"]["advancing"]["target_frozen_time"])

    def move(self, clock: Document, target: int) -> None:
        """However far; everything on the way happens."""
        self._account.alarms.ring(clock["id"], target)
        self._account.clock.frozen[clock["id"]] = target
        with self._account.book.changing(clock, f"{KIND}.ready"):
            clock |= {"frozen_time": target, "status": "ready", "status_details": {}}

    def delete(self, name: str) -> Document:
        """With its customers, and all that is theirs; nobody is told of these."""
        clock = self.retrieve(name)
        book = self._account.book
        owners = {row["id"] for row in book.all("customer") if row.get("test_clock") == name}
        for table in book.tables.values():
            for row in list(table.values()):
                if row["id"] in owners or row.get("customer") in owners:
                    del table[row["id"]]
        del book.tables[KIND][name]
        book.tell(f"{KIND}.deleted", clock)
        return {"id": name, "object": KIND, "deleted": True}

    def _farthest(self, clock: Document) -> int:
        intervals = [
            (item["price"]["recurring"]["interval"], item["price"]["recurring"]["interval_count"])
            for row in self._account.book.all("subscription", test_clock=clock["id"])
            if row["status"] not in ENDED
            for item in row["items"]["data"]
        ]
        now = clock["frozen_time"]
        if not intervals:
            return periods.later(now, "year", 2)
        return min(periods.later(now, interval, 2 * count) for interval, count in intervals)
