"""A link works once, for its purpose, in its time."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from zlh.store import accounts, mail_links
from zlh.store.mail_links import MailLink, Purpose

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SOON = NOW + timedelta(minutes=30)


def somebody(connection: sa.Connection, name: str = "ada") -> int:
    return accounts.create(connection, email=f"{name}@example.com", username=name, password_hash="x", now=NOW).id


def issue(connection: sa.Connection, token: str, purpose: Purpose, email: str, account_id: int) -> MailLink:
    link = MailLink(account_id, purpose, email)
    mail_links.issue(connection, token, link, now=NOW, expires_at=SOON)
    return link


def test_a_link_works_once_for_its_purpose_in_its_time(connection: sa.Connection) -> None:
    link = issue(connection, "t", Purpose.RESET, "ada@example.com", somebody(connection))
    assert mail_links.find(connection, "t", Purpose.VERIFY, NOW) is None
    assert mail_links.spend(connection, "t", Purpose.VERIFY, NOW) is None
    assert mail_links.spend(connection, "t", Purpose.RESET, SOON) is None
    assert mail_links.spend(connection, "u", Purpose.RESET, NOW) is None
    assert mail_links.find(connection, "t", Purpose.RESET, NOW) == link
    assert mail_links.spend(connection, "t", Purpose.RESET, NOW) == link
    assert mail_links.find(connection, "t", Purpose.RESET, NOW) is None
    assert mail_links.spend(connection, "t", Purpose.RESET, NOW) is None


def test_of_two_at_once_one_wins(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        issue(connection, "t", Purpose.RESET, "ada@example.com", somebody(connection))
    barrier = threading.Barrier(6)
    found: list[MailLink | None] = []

    def spend() -> None:
        with engine.begin() as connection:
            barrier.wait()
            found.append(mail_links.spend(connection, "t", Purpose.RESET, NOW))

    threads = [threading.Thread(target=spend) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert sum(link is not None for link in found) == 1


def test_withdrawing_leaves_what_verifies_the_present_address_and_what_is_others(connection: sa.Connection) -> None:
    ada, bob = somebody(connection), somebody(connection, "bob")
    issue(connection, "reset", Purpose.RESET, "ada@example.com", ada)
    issue(connection, "change", Purpose.VERIFY, "new@example.com", ada)
    issue(connection, "verify", Purpose.VERIFY, "Ada@Example.com", ada)
    issue(connection, "bob", Purpose.RESET, "bob@example.com", bob)
    mail_links.withdraw(connection, ada, but_verifying="ada@example.com")
    assert mail_links.find(connection, "reset", Purpose.RESET, NOW) is None
    assert mail_links.find(connection, "change", Purpose.VERIFY, NOW) is None
    assert mail_links.find(connection, "verify", Purpose.VERIFY, NOW)
    mail_links.withdraw(connection, ada)
    assert mail_links.find(connection, "verify", Purpose.VERIFY, NOW) is None
    assert mail_links.find(connection, "bob", Purpose.RESET, NOW)


def test_old_links_are_forgotten(connection: sa.Connection) -> None:
    issue(connection, "t", Purpose.RESET, "ada@example.com", somebody(connection))
    assert mail_links.purge(connection, SOON) == 0
    assert mail_links.purge(connection, SOON + timedelta(seconds=1)) == 1
