"""Plans and exceptions that operators give, without Stripe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import sqlalchemy as sa

from zlh.billing.standings import Settled, Standings
from zlh.model.accounts import Account
from zlh.model.errors import InvalidError
from zlh.model.plans import EXCEPTIONS, Plan
from zlh.store import accounts
from zlh.store.database import Database

LONGEST_REASON = 500


class Grants:
    """Everything may raise StoreUnavailable."""

    def __init__(
        self, database: Database, standings: Standings, plans: Mapping[str, Plan], now: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._standings = standings
        self._plans = plans
        self._now = now

    async def give(
        self,
        account_id: int,
        *,
        plan: str | None,
        until: datetime | None,
        because: str,
        exceptions: Mapping[str, int],
    ) -> Account:
        """In the place of what was given before; a plan None takes it back, and what is paid counts alone. Raises
        AbsentError, InvalidError."""
        problems = []
        if plan is not None and plan not in self._plans:
            problems.append(("plan", f"there is no plan {plan!r}"))
        if until is not None and (plan is None or until <= self._now()):
            problems.append(("until", "the end of a plan that is given lies in the future"))
        problems += [("exceptions", f"there is no limit {name!r}") for name in exceptions.keys() - set(EXCEPTIONS)]
        if problems:
            raise InvalidError.of(*problems)

        def write(connection: sa.Connection) -> Settled:
            accounts.lock(connection, account_id)
            accounts.set_grant(
                connection,
                account_id,
                plan=plan,
                until=until,
                because=because[:LONGEST_REASON],
                exceptions=exceptions,
            )
            return self._standings.write(connection, account_id)

        return self._standings.announce(await self._database.run(write)).after
