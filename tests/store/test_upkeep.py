"""Old rows go, young ones stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from zlh.store import Database, accounts, idempotency, mail_links, outbox, sessions, upkeep
from zlh.store.mail_links import MailLink, Purpose
from zlh.store.outbox import Letter

NOW = datetime(2026, 6, 1, tzinfo=UTC)


async def test_what_has_expired_is_forgotten_and_nothing_else(postgres_url: str) -> None:
    database = Database(postgres_url, pool_size=2)

    def fill(connection: sa.Connection) -> tuple[int, str]:
        account = accounts.create(
            connection, email="a@example.com", username="a", password_hash="x", now=NOW - timedelta(days=40)
        )
        for age in (timedelta(days=2), timedelta(hours=1)):
            claim = idempotency.claim(connection, account.id, f"key of {age}", "hash", now=NOW - age)
            idempotency.complete(connection, claim, 200, b"{}")
        _open(connection, account.id, "old", NOW - timedelta(days=3))
        young = _open(connection, account.id, "young", NOW + timedelta(days=3))
        return account.id, young

    try:
        account_id, young = await database.run(fill)
        assert await database.run(upkeep.forget_old, NOW) == 2
        assert await database.run(upkeep.forget_old, NOW) == 0
        assert [session.id for session in await database.run(sessions.active, account_id, NOW)] == [young]
    finally:
        await database.aclose()


async def test_old_links_and_letters_that_were_given_up_are_forgotten(db: Database) -> None:
    def fill(connection: sa.Connection) -> None:
        account = accounts.create(connection, email="a@example.com", username="a", password_hash="x", now=NOW)
        for age in (timedelta(days=2), timedelta(hours=1)):
            link = MailLink(account.id, Purpose.RESET, "a@example.com")
            mail_links.issue(connection, str(age), link, now=NOW - age, expires_at=NOW - age)
        for days in (31, 29):
            outbox.post(connection, Letter("k", f"{days}@example.com", "s", "t"), NOW - timedelta(days=days))
            (taken,) = outbox.take(connection, NOW, most=1, lease=timedelta(0))
            outbox.give_up(connection, taken, NOW - timedelta(days=days), "refused")
        # Waiting is no reason to be forgotten.
        outbox.post(connection, Letter("k", "waiting@example.com", "s", "t"), NOW - timedelta(days=99))

    await db.run(fill)
    assert await db.run(upkeep.forget_old, NOW) == 2
    assert await db.run(upkeep.forget_old, NOW) == 0
    assert await db.run(outbox.owed) == 1


def _open(connection: sa.Connection, account_id: int, token: str, expires_at: datetime) -> str:
    session = sessions.open_session(
        connection, account_id, token, now=NOW - timedelta(days=30), expires_at=expires_at, address="", agent=""
    )
    return session.id
