"""What follows from money, written where everybody reads it: the account's plan, status and suspension."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

import sqlalchemy as sa

from zlh.billing.entitlements import Entitlement, best, entitlement
from zlh.billing.letters import Side, letters
from zlh.model.accounts import Account
from zlh.model.audit import Act, Ending, Fact, Outcome
from zlh.model.billing import Grant, Subscription
from zlh.model.plans import Plan, Usage
from zlh.store import accounts, outbox, reservations, subscriptions
from zlh.store.database import Database

Told = Callable[[Account], None]
Note = Callable[[Act, Ending], None]


@dataclass(frozen=True, slots=True)
class Standing:
    """What an account's row says of money, beside when that is to be reckoned anew."""

    plan: str | None
    billing_status: str | None
    suspended_at: datetime | None
    suspends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Settled:
    """An account before and after, and what it is entitled to."""

    before: Account
    after: Account
    entitled: Entitlement


class Standings:
    """`told(account)` hears at once what was written here, `note` keeps it for the audit record. `mail`: e-mail
    leaves this installation; `portal_url` is where people pay."""

    def __init__(
        self,
        database: Database,
        plans: Mapping[str, Plan],
        *,
        told: Told,
        note: Note,
        mail: bool,
        portal_url: str,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._plans = plans
        self._told = told
        self._note = note
        self._mail = mail
        self._portal_url = portal_url
        self._now = now

    async def settle(self, account_id: int) -> Settled:
        """Reckons anew, as time and rows are now. Raises AbsentError, StoreUnavailable."""
        return self.announce(await self._database.run(self.write, account_id))

    def write(
        self, connection: sa.Connection, account_id: int, before: Iterable[Subscription] | None = None
    ) -> Settled:
        """In the caller's transaction, in which the account is held. `before` are the subscriptions as they were,
        where the transaction changed them. `announce` is to follow the commit. Raises AbsentError."""
        account = accounts.lock(connection, account_id)
        present = subscriptions.of_account(connection, account_id)
        entitled = entitlement(present, grant_of(account), self._plans, self._now())
        owns = reservations.usage(connection, account_id) != Usage()
        after = _put(connection, account, standing(entitled, owns=owns), entitled)
        if self._mail:
            known = present if before is None else before
            sides = self._side(account, known), self._side(after, present)
            for letter in letters(*sides, self._portal_url):
                outbox.post(connection, letter, self._now())
        return Settled(account, after, entitled)

    def announce(self, settled: Settled) -> Settled:
        """Tells those who have to know at once, after the commit."""
        before, after = settled.before, settled.after
        if before == after:
            return settled
        self._told(after)
        for action, details in _acts(before, after):
            act = Act(at=self._now(), action=action, credential="none", subject_id=after.id, details=details)
            self._note(act, Ending(outcome=Outcome.DONE))
        return settled

    def _side(self, account: Account, present: Iterable[Subscription]) -> Side:
        return Side(account, best(present), self._plans.get(account.plan or ""))


def grant_of(account: Account) -> Grant | None:
    """What an operator gave."""
    return Grant(account.granted_plan, account.granted_until) if account.granted_plan is not None else None


def standing(entitled: Entitlement, *, owns: bool) -> Standing:
    """What is written of an account that has containers, or none. Who has none has nothing to be stopped, and may
    still use what others share; but makes none either, until something is paid."""
    status = entitled.status.value if entitled.status is not None else None
    if entitled.suspended_at is not None and not owns:
        return Standing(None, status, None, entitled.suspends_at)
    return Standing(entitled.plan, status, entitled.suspended_at, entitled.suspends_at)


def standing_of(account: Account) -> Standing:
    """What is written."""
    return Standing(account.plan, account.billing_status, account.billing_suspended_at, account.suspends_at)


def _put(connection: sa.Connection, account: Account, wanted: Standing, entitled: Entitlement) -> Account:
    due_at = min((at for at in (entitled.changes_at, entitled.look_at) if at is not None), default=None)
    if (wanted, due_at) == (standing_of(account), account.billing_due_at):
        return account
    return accounts.set_entitlement(connection, account.id, **asdict(wanted), due_at=due_at)


def _acts(before: Account, after: Account) -> list[tuple[str, Mapping[str, Fact]]]:
    found: list[tuple[str, Mapping[str, Fact]]] = []
    if before.plan != after.plan:
        found.append(("billing.plan", {"plan": after.plan or "none"}))
    if (before.billing_suspended_at is None) != (after.billing_suspended_at is None):
        action = "billing.suspended" if after.billing_suspended_at is not None else "billing.resumed"
        found.append((action, {"reason": after.billing_status or "none"}))
    return found
