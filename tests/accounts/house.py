"""All that concerns accounts over a real database, with a clock that tests turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from zlh.accounts import AccountServices, Passwords, Rules, SignedIn, TokenRules, open_accounts
from zlh.model.accounts import Principal
from zlh.store import Database, Vault
from zlh.store.tables import outbox

PASSWORD = "correct horse"


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class House:
    """`open` gives services that know nothing of those opened before but what the database tells them, as another
    process would."""

    database: Database
    vault: Vault
    clock: Clock = field(default_factory=Clock)

    async def open(self, passwords: Passwords | None = None, **rules: Any) -> AccountServices:
        return await open_accounts(
            self.database,
            self.vault,
            passwords or Passwords.cheap(),
            Rules(**rules),
            TokenRules("test", 600),
            now=self.clock,
        )

    async def letters(self) -> list[str]:
        """The kinds of all that is to be sent, the oldest first."""
        return await self.database.run(_kinds)


def _kinds(connection: sa.Connection) -> list[str]:
    return list(connection.execute(sa.select(outbox.c.kind).order_by(outbox.c.id)).scalars())


async def register(people: AccountServices, name: str = "ada", **visit: str) -> SignedIn:
    return await people.sign_in.register(email=f"{name}@example.com", username=name, password=PASSWORD, **visit)


def principal_of(people: AccountServices, signed_in: SignedIn) -> Principal:
    return people.access.principal(signed_in.token)
