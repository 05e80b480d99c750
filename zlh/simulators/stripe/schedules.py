"""Subscription schedules: phases that a subscription goes through, such as a lower price from the next period on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zlh.simulators.stripe import lists, names, periods
from zlh.simulators.stripe.change import plan
from zlh.simulators.stripe.errors import Document, Wrong, invalid
from zlh.simulators.stripe.form import Wish
from zlh.simulators.stripe.prices import same_interval
from zlh.simulators.stripe.proration import Portion
from zlh.simulators.stripe.schedule import item_of, phase_of, schedule_of
from zlh.simulators.stripe.subscription import ENDED, period_of
from zlh.simulators.stripe.subscriptions import UPDATED

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

BEHAVIORS = ("create_prorations", "always_invoice", "none")


class Schedules:
    def __init__(self, account: Account) -> None:
        self._account = account
        account.alarms.rule("subscription_schedule", self._due, self._pass_time)

    # Requests

    def create(self, wish: Wish) -> Document:
        name = wish.needed("from_subscription")
        metadata = wish.metadata({})
        wish.finish()
        owner = self._account.book.find("subscription", name, "from_subscription")
        if owner["status"] in ENDED:
            raise Wrong(400, "You cannot migrate a subscription that is already canceled.", param="from_subscription")
        if owner["schedule"]:
            words = "You cannot migrate a subscription that is already attached to a schedule: "
            raise Wrong(400, words + owner["schedule"], param="from_subscription")
        start, end = period_of(owner)
        items = [(item["price"]["id"], item["quantity"]) for item in owner["items"]["data"]]
        schedule = schedule_of(owner, metadata, self._account.now_of(owner))
        schedule["phases"] = [phase_of(owner["currency"], items, start, end, "create_prorations", {})]
        schedule["current_phase"] = {"start_date": start, "end_date": end}
        with self._account.book.changing(owner, UPDATED):
            owner["schedule"] = schedule["id"]
        return self._account.book.add(schedule, "subscription_schedule.created")

    def update(self, name: str, wish: Wish) -> Document:
        schedule = self.retrieve(name)
        owner = self._account.book.find("subscription", schedule["subscription"] or "")
        if schedule["status"] != "active":
            words = f"You cannot update a subscription schedule that is currently in the `{schedule['status']}` "
            raise Wrong(400, words + "status. It must be in `not_started` or `active`.")
        behavior = wish.choice("proration_behavior", *BEHAVIORS, default="create_prorations")
        end_behavior = wish.choice("end_behavior", "release", "cancel", default=schedule["end_behavior"])
        metadata = wish.metadata(schedule["metadata"])
        phases = self._phases(owner, schedule, wish) if "phases" in wish else schedule["phases"]
        wish.finish()
        with self._account.book.changing(schedule, "subscription_schedule.updated"):
            schedule |= {"phases": phases, "end_behavior": end_behavior, "metadata": metadata}
            now = self._account.now_of(owner)
            current = next((one for one in phases if one["start_date"] <= now < one["end_date"]), None)
            if current is not None:
                schedule["current_phase"] = {key: current[key] for key in ("start_date", "end_date")}
        if current is not None:
            self._enter(owner, current, behavior)
        return schedule

    def release(self, name: str, wish: Wish) -> Document:
        schedule = self.retrieve(name)
        wish.ignore("preserve_cancel_date")
        wish.finish()
        if schedule["status"] not in ("active", "not_started"):
            words = f"You cannot release a subscription schedule that is currently in the `{schedule['status']}` "
            raise Wrong(400, words + "status. It must be in `not_started` or `active`.")
        self._release(schedule)
        return schedule

    def retrieve(self, name: str) -> Document:
        return self._account.book.find("subscription_schedule", name)

    def listing(self, wish: Wish) -> Document:
        customer = wish.text("customer")
        everything = self._account.book.all("subscription_schedule")
        rows = [row for row in everything if customer is None or row["customer"] == customer]
        return lists.page(rows, wish, "/v1/subscription_schedules", everything)

    # What the subscription says

    def orphan(self, owner: Document) -> None:
        """The subscription ends."""
        schedule = self._of(owner)
        if schedule is None:
            return
        now = self._account.now_of(owner)
        with self._account.book.changing(schedule, None):
            schedule |= {"status": "canceled", "canceled_at": now, "current_phase": None}
        owner["schedule"] = None
        self._account.book.tell("subscription_schedule.canceled", schedule)

    def follow(self, owner: Document) -> None:
        """The subscription's items were changed directly: so is the current phase."""
        schedule = self._of(owner)
        if schedule is None or schedule["current_phase"] is None:
            return
        begun = schedule["current_phase"]["start_date"]
        with self._account.book.changing(schedule, "subscription_schedule.updated"):
            for phase in schedule["phases"]:
                if phase["start_date"] == begun:
                    rows = [(item["price"]["id"], item["quantity"]) for item in owner["items"]["data"]]
                    phase["items"] = [item_of(price, quantity) for price, quantity in rows]

    # What time does

    def _due(self, schedule: Document) -> int | None:
        if schedule["status"] != "active" or schedule["current_phase"] is None:
            return None
        return int(schedule["current_phase"]["end_date"])

    def _pass_time(self, schedule: Document) -> None:
        owner = self._account.book.find("subscription", schedule["subscription"])
        ended = schedule["current_phase"]["end_date"]
        following = next((one for one in schedule["phases"] if one["start_date"] == ended), None)
        if following is not None:
            with self._account.book.changing(schedule, "subscription_schedule.updated"):
                schedule["current_phase"] = {key: following[key] for key in ("start_date", "end_date")}
            self._enter(owner, following, following["proration_behavior"])
        elif schedule["end_behavior"] == "cancel":
            with self._account.book.changing(schedule, None):
                schedule |= {"status": "completed", "completed_at": ended, "current_phase": None}
            self._account.book.tell("subscription_schedule.completed", schedule)
            owner["schedule"] = None
            self._account.subscriptions.end(owner, None, keep_pending=True)
        else:
            self._release(schedule)

    def _enter(self, owner: Document, phase: Document, behavior: str) -> None:
        """The subscription's items become those of the phase, in their order."""
        items = owner["items"]["data"]
        prices = {one["price"]: self._account.prices.retrieve(one["price"]) for one in phase["items"]}
        prices |= {item["price"]["id"]: item["price"] for item in items}
        portions = [
            Portion(
                items[i]["id"] if i < len(items) else names.make("subscription_item"),
                one["price"],
                one["quantity"],
                prices[one["price"]]["unit_amount"],
            )
            for i, one in enumerate(phase["items"])
        ]
        now = self._account.now_of(owner)
        debits = self._account.tabs.debits(owner)
        made = plan(owner, debits, portions, prices, at=now, behavior=behavior)
        with self._account.book.changing(owner, UPDATED):
            owner["metadata"] = {**owner["metadata"], **phase["metadata"]}
            self._account.subscriptions.apply(owner, made)
            at_once = made.renewed or (behavior == "always_invoice" and made.prorations)
            invoice = None
            if at_once:
                invoice = self._account.tabs.bill(owner, "subscription_update", whole=made.renewed)
        if invoice is not None:
            self._account.invoices.finalize(invoice)
            self._account.invoices.collect(invoice)

    def _release(self, schedule: Document) -> None:
        owner = self._account.book.find("subscription", schedule["subscription"])
        with self._account.book.changing(schedule, None):
            schedule |= {
                "current_phase": None,
                "released_at": self._account.now_of(owner),
                "released_subscription": owner["id"],
                "status": "released",
                "subscription": None,
            }
        with self._account.book.changing(owner, UPDATED):
            owner["schedule"] = None
        self._account.book.tell("subscription_schedule.released", schedule)

    def _of(self, owner: Document) -> Document | None:
        name = owner["schedule"]
        return None if name is None else self.retrieve(name)

    # Phases

    def _phases(self, owner: Document, schedule: Document, wish: Wish) -> list[Document]:
        """Each begins where the one before it ends. Raises Wrong(400)."""
        phases: list[Document] = []
        now = self._account.now_of(owner)
        for number, one in enumerate(wish.each("phases")):
            start = self._moment(one, "start_date", now)
            if start is None:
                if not number:
                    raise invalid(one.param("start_date"), "Missing required param: phases[0][start_date].", _MISSING)
                start = phases[-1]["end_date"]
            if number and start != phases[-1]["end_date"]:
                raise invalid(one.param("start_date"), "A phase begins where the one before it ends.")
            phases.append(self._phase(owner, one, start))
        current = schedule["current_phase"]
        if not phases:
            raise invalid("phases", "Missing required param: phases.", _MISSING)
        if current is not None and phases[0]["start_date"] != current["start_date"]:
            raise invalid("phases", "You can not modify the start date of the current phase.")
        return phases

    def _phase(self, owner: Document, wish: Wish, start: int) -> Document:
        chosen = []
        for one in wish.each("items"):
            price = self._account.prices.recurring(one.needed("price"), one.param("price"))
            quantity = one.integer("quantity")
            one.ignore("metadata")
            chosen.append((price, 1 if quantity is None else quantity))
        if not chosen:
            raise invalid(wish.param("items"), f"Missing required param: {wish.param('items')}.", _MISSING)
        same_interval([price for price, _ in chosen], wish.param("items"))
        if any(price["currency"] != owner["currency"] for price, _ in chosen):
            raise invalid(wish.param("items"), "The currency of a phase is that of the subscription.")
        interval = chosen[0][0]["recurring"]["interval"]
        end, duration = self._moment(wish, "end_date", self._account.now_of(owner)), wish.inside("duration")
        count = duration.integer("interval_count")
        of = duration.choice("interval", "day", "week", "month", "year", default=interval)
        if end is None:
            end = periods.later(start, of, 1 if count is None else count)
        if end <= start:
            raise invalid(wish.param("end_date"), "A phase ends after it begins.")
        behavior = wish.choice("proration_behavior", *BEHAVIORS, default="create_prorations")
        metadata = wish.metadata({})
        rows = [(price["id"], quantity) for price, quantity in chosen]
        return phase_of(owner["currency"], rows, start, end, behavior, metadata)

    def _moment(self, wish: Wish, name: str, now: int) -> int | None:
        if wish.raw(name) == "now":
            wish.text(name)
            return now
        return wish.integer(name)


_MISSING = "parameter_missing"
