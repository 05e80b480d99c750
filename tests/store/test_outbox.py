"""Letters are taken by one at a time, and stay until they were delivered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from zlh.store import Database, Vault, outbox
from zlh.store.outbox import Due, Letter

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LEASE = timedelta(minutes=2)
LETTER = Letter("new_sign_in", "ada@example.com", "A subject", "A text with a secret link")


def take(connection: sa.Connection, now: datetime = NOW, most: int = 10) -> list[Due]:
    return outbox.take(connection, now, most=most, lease=LEASE)


def test_a_letter_is_sealed_and_comes_back(connection: sa.Connection) -> None:
    outbox.post(connection, LETTER, NOW)
    row = connection.execute(sa.text("SELECT * FROM outbox")).one()
    assert b"secret" not in bytes(row.sealed)
    (taken,) = take(connection)
    assert (taken.letter, taken.kind, taken.attempts, taken.created_at) == (LETTER, "new_sign_in", 1, NOW)
    assert "secret" not in repr(taken)


def test_a_letter_that_was_taken_is_nobody_elses_until_the_lease_ends(connection: sa.Connection) -> None:
    outbox.post(connection, LETTER, NOW)
    (first,) = take(connection)
    assert take(connection, NOW + LEASE - timedelta(seconds=1)) == []
    (second,) = take(connection, NOW + LEASE)
    assert second.attempts == 2
    # Who took it too long ago changes nothing.
    assert not outbox.delivered(connection, first)
    assert not outbox.put_off(connection, first, NOW, "late")
    assert not outbox.give_up(connection, first, NOW, "late")
    assert outbox.owed(connection) == 1
    assert outbox.delivered(connection, second)
    assert outbox.owed(connection) == 0


def test_the_longest_due_come_first_and_no_more_than_asked_for(connection: sa.Connection) -> None:
    for minute in (3, 1, 2, -5):
        outbox.post(connection, Letter("k", f"{minute}@example.com", "s", "t"), NOW - timedelta(minutes=minute))
    recipients = {taken.letter.recipient for taken in take(connection, most=2) if taken.letter}
    assert recipients == {"3@example.com", "2@example.com"}
    assert [taken.letter.recipient for taken in take(connection) if taken.letter] == ["1@example.com"]


def test_put_off_and_given_up(connection: sa.Connection) -> None:
    outbox.post(connection, LETTER, NOW)
    (taken,) = take(connection)
    assert outbox.put_off(connection, taken, NOW + timedelta(hours=1), "x" * 1000)
    assert take(connection, NOW + timedelta(minutes=59)) == []
    (again,) = take(connection, NOW + timedelta(hours=1))
    assert outbox.give_up(connection, again, NOW, "no such user")
    assert take(connection, NOW + timedelta(days=9)) == []
    assert outbox.owed(connection) == 0
    assert outbox.purge(connection, NOW) == 0
    assert outbox.purge(connection, NOW + timedelta(seconds=1)) == 1


def test_two_who_take_at_once_get_different_letters(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for _ in range(4):
            outbox.post(connection, LETTER, NOW)
    with engine.connect() as one, engine.connect() as other:
        mine, theirs = take(one, most=3), take(other, most=3)
        assert (len(mine), len(theirs)) == (3, 1)
        assert not {taken.id for taken in mine} & {taken.id for taken in theirs}
        one.rollback()
        other.commit()
    with engine.connect() as connection:
        assert len(take(connection)) == 3


async def test_a_letter_that_no_key_opens_is_told_apart(db: Database) -> None:
    await db.run(outbox.post, LETTER, NOW)
    stranger = Database(db.url, 1, vault=Vault([Vault.new_key()]))
    try:
        (taken,) = await stranger.run(take)
    finally:
        await stranger.aclose()
    assert taken.letter is None
    (readable,) = await db.run(take, NOW + LEASE)
    assert readable.letter == LETTER


async def test_a_rollback_takes_the_letter_with_it(db: Database) -> None:
    def fail(connection: sa.Connection) -> None:
        outbox.post(connection, LETTER, NOW)
        raise LookupError

    try:
        await db.run(fail)
    except LookupError:
        pass
    assert await db.run(outbox.owed) == 0
