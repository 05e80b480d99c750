from __future__ import annotations

import sqlalchemy as sa

from tests.store.samples import NOW
from zlh.model.edge import Entry
from zlh.store.edge_entries import claim, of_target, release

FIRST = Entry(5001, "A", "ct-5001.zlh.test", "10.0.0.80")
SECOND = Entry(5002, "A", "ct-5002.zlh.test", "10.0.0.80")


def test_what_is_claimed_is_kept_by_target_until_it_is_released(connection: sa.Connection) -> None:
    claim(connection, "technitium", [FIRST, SECOND], NOW)
    claim(connection, "cloudflare", [FIRST], NOW)
    assert set(of_target(connection, "technitium")) == {FIRST, SECOND}
    release(connection, "technitium", [FIRST.key, FIRST.key])
    assert of_target(connection, "technitium") == [SECOND]
    assert of_target(connection, "cloudflare") == [FIRST]


def test_what_another_claims_is_anothers(connection: sa.Connection) -> None:
    claim(connection, "technitium", [FIRST], NOW)
    taken = Entry(5009, *FIRST.key)
    claim(connection, "technitium", [taken], NOW)
    assert of_target(connection, "technitium") == [taken]


def test_nothing_is_nothing(connection: sa.Connection) -> None:
    claim(connection, "technitium", [], NOW)
    release(connection, "technitium", [])
    assert of_target(connection, "technitium") == []


def test_more_than_one_statement_takes(connection: sa.Connection) -> None:
    """A large installation that moves to another zone gives up all that it had at once."""
    entries = [
        Entry(number, "A", f"ct-{number}.zlh.test", address)
        for number in range(12_000)
        for address in ("10.0.0.80", "10.0.0.81")
    ]
    claim(connection, "technitium", entries, NOW)
    release(connection, "technitium", [entry.key for entry in entries[1:]])
    assert of_target(connection, "technitium") == [entries[0]]
