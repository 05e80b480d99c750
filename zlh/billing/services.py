"""All that concerns money, put together in one place for the API, the commands and the tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import actors
from actors import ChildSpec, Context
from zlh.billing.carrier import Carrier
from zlh.billing.desk import Desk
from zlh.billing.grants import Grants
from zlh.billing.inbox import Inbox
from zlh.billing.ledger import Ledger
from zlh.billing.looks import Looks
from zlh.billing.reconciler import Machines, Reconciler
from zlh.billing.standings import Note, Standings, Told
from zlh.billing.timekeeper import Timekeeper
from zlh.drivers.stripe import StripeDriver
from zlh.model.plans import Plan
from zlh.store.database import Database

Annotate = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Selling:
    """How plans are sold. `webhook_secrets` are those that Stripe may sign with; the three addresses are the Portal's
    pages after a payment, after none, and after a visit to Stripe's own pages."""

    stripe: StripeDriver
    webhook_secrets: tuple[str, ...] = field(repr=False)
    installation: str
    success_url: str
    cancel_url: str
    return_url: str


@dataclass(frozen=True, slots=True)
class BillingServices:
    """What the routes call. `desk`, `looks` and what else needs Stripe are None where nothing is sold: then there are
    only the plans that operators give."""

    standings: Standings
    grants: Grants
    reconciler: Reconciler
    ledger: Ledger
    timekeeper: Timekeeper
    now: Callable[[], datetime]
    looks: Looks | None = None
    desk: Desk | None = None
    inbox: Inbox | None = None
    carrier: Carrier | None = None
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)

    def statistics(self) -> dict[str, float | Mapping[str, float]]:
        """For /metrics: events that wait, findings of the last comparison by kind, and when it was (Unix seconds)."""
        figures: dict[str, float | Mapping[str, float]] = {}
        if self.inbox is not None:
            figures["events_waiting"] = self.inbox.waiting
        last = self.reconciler.last
        if last is not None:
            figures["compared_at"] = last.ended_at.timestamp()
            figures["findings"] = Counter(str(finding["kind"]) for finding in last.findings)
        return figures

    def spec(self) -> ChildSpec:
        """The part of the supervision tree."""
        tasks: dict[str, Callable[[Annotate], Awaitable[None]]] = {
            "timekeeper": self.timekeeper.run,
            "reconciler": self.reconciler.run,
            "ledger": self.ledger.run,
        }
        if self.inbox is not None and self.carrier is not None:
            tasks |= {"inbox": self.inbox.run, "orders": self.carrier.run}
        return actors.supervisor("billing", [actors.task(name, _annotated(run)) for name, run in tasks.items()])


def open_billing(
    database: Database,
    plans: Mapping[str, Plan],
    machines: Machines,
    selling: Selling | None,
    *,
    told: Told,
    note: Note,
    mail: bool,
    portal_url: str,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> BillingServices:
    """`told` hears of accounts that became others, `note` of what is for the audit record."""
    standings = Standings(database, plans, told=told, note=note, mail=mail, portal_url=portal_url, now=now)
    grants = Grants(database, standings, plans, now)
    ledger = Ledger(database, machines, now)
    if selling is None:
        return BillingServices(
            standings,
            grants,
            Reconciler(database, None, None, standings, machines, plans, now),
            ledger,
            Timekeeper(database, standings, None, now),
            now,
        )
    stripe = selling.stripe
    looks = Looks(database, stripe, standings, now)
    carrier = Carrier(
        database,
        stripe,
        looks,
        installation=selling.installation,
        success_url=selling.success_url,
        cancel_url=selling.cancel_url,
        now=now,
    )
    return BillingServices(
        standings,
        grants,
        Reconciler(database, stripe, looks, standings, machines, plans, now),
        ledger,
        Timekeeper(database, standings, looks, now),
        now,
        looks=looks,
        desk=Desk(database, stripe, looks, carrier, plans, return_url=selling.return_url, now=now),
        inbox=Inbox(database, stripe, looks, now),
        carrier=carrier,
        webhook_secrets=selling.webhook_secrets,
    )


def _annotated(run: Callable[[Annotate], Awaitable[None]]) -> Callable[[Context], Awaitable[None]]:
    async def supervised(ctx: Context) -> None:
        ctx.started()
        await run(ctx.annotate)

    return supervised
