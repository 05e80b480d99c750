from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from tests.store.samples import NOW, add_account
from zlh.store import sessions
from zlh.store.sessions import GRACE, Refused, Reused, Rotated, Session

END = NOW + timedelta(days=30)


@pytest.fixture
def session(connection: sa.Connection) -> Session:
    account = add_account(connection)
    return sessions.open_session(
        connection, account.id, "t0", now=NOW, expires_at=END, address="192.0.2.1", agent="browser"
    )


def rotate(connection: sa.Connection, presented: str, following: str, at: datetime) -> sessions.Rotation:
    return sessions.rotate(connection, presented, following, now=at, expires_at=at + timedelta(days=30))


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_a_session_as_it_was_opened(connection: sa.Connection, session: Session) -> None:
    assert (session.address, session.agent) == ("192.0.2.1", "browser")
    assert session.live(NOW)
    assert sessions.get(connection, session.id) == session
    assert sessions.active(connection, session.account_id, NOW) == [session]


def test_tokens_rotate(connection: sa.Connection, session: Session) -> None:
    first = rotate(connection, "t0", "t1", after(600))
    second = rotate(connection, "t1", "t2", after(1200))
    assert isinstance(first, Rotated)
    assert isinstance(second, Rotated)
    assert second.session.last_used_at == after(1200)
    assert second.session.expires_at > session.expires_at


def test_a_token_used_again_after_the_grace_ends_the_family(connection: sa.Connection, session: Session) -> None:
    rotate(connection, "t0", "t1", after(600))
    assert isinstance(rotate(connection, "t0", "stolen", after(600) + GRACE + timedelta(seconds=1)), Reused)
    assert sessions.active(connection, session.account_id, after(700)) == []
    assert isinstance(rotate(connection, "t1", "t2", after(700)), Refused)
    ended = sessions.get(connection, session.id)
    assert ended is not None
    assert ended.revoked_because == "a spent refresh token was used again"


def test_two_tabs_at_once_both_go_on(connection: sa.Connection, session: Session) -> None:
    assert isinstance(rotate(connection, "t0", "left", after(600)), Rotated)
    assert isinstance(rotate(connection, "t0", "right", after(605)), Rotated)
    assert isinstance(rotate(connection, "left", "left2", after(1200)), Rotated)
    assert isinstance(rotate(connection, "right", "right2", after(1205)), Rotated)


def test_a_thief_within_the_grace_is_found_out_later(connection: sa.Connection, session: Session) -> None:
    rotate(connection, "t0", "owner", after(600))
    assert isinstance(rotate(connection, "t0", "thief", after(605)), Rotated)
    assert isinstance(rotate(connection, "owner", "owner2", after(1200)), Rotated)
    assert isinstance(rotate(connection, "thief", "thief2", after(1300)), Reused)


def test_a_token_of_two_generations_ago_has_no_grace(connection: sa.Connection, session: Session) -> None:
    rotate(connection, "t0", "t1", after(1))
    rotate(connection, "t1", "t2", after(2))
    assert isinstance(rotate(connection, "t0", "stolen", after(3)), Reused)


def test_unknown_expired_and_revoked_tokens_are_refused(connection: sa.Connection, session: Session) -> None:
    assert isinstance(rotate(connection, "guess", "next", after(1)), Refused)
    assert isinstance(rotate(connection, "t0", "next", END), Refused)
    assert sessions.revoke(connection, session.id, after(1))
    assert not sessions.revoke(connection, session.id, after(2))
    assert isinstance(rotate(connection, "t0", "next", after(3)), Refused)
    assert sessions.revoked_since(connection, after(1)) == [session.id]
    assert sessions.revoked_since(connection, after(2)) == []


def test_signing_out_everywhere(connection: sa.Connection, session: Session) -> None:
    other = sessions.open_session(connection, session.account_id, "u0", now=after(5), expires_at=END)
    assert set(sessions.revoke_all(connection, session.account_id, after(10))) == {session.id, other.id}
    assert sessions.revoke_all(connection, session.account_id, after(10)) == []


def test_old_sessions_are_forgotten_with_their_tokens(connection: sa.Connection, session: Session) -> None:
    assert sessions.purge(connection, END) == 0
    assert sessions.purge(connection, END + timedelta(seconds=1)) == 1
    assert sessions.get(connection, session.id) is None
    assert isinstance(rotate(connection, "t0", "next", after(1)), Refused)


def test_the_same_token_from_two_connections_rotates_once(engine: sa.Engine) -> None:
    """The others wait for the first, then fall under the grace: one new generation, not four."""
    with engine.begin() as connection:
        account = add_account(connection)
        opened = sessions.open_session(connection, account.id, "t0", now=NOW, expires_at=END)

    def refresh(number: int) -> sessions.Rotation:
        with engine.begin() as connection:
            return rotate(connection, "t0", f"next{number}", after(1))

    with ThreadPoolExecutor(4) as threads:
        assert all(isinstance(one, Rotated) for one in threads.map(refresh, range(4)))
    with engine.begin() as connection:
        query = sa.text("SELECT generation FROM sessions WHERE id = :id")
        assert connection.execute(query, {"id": opened.id}).scalar() == 1


def test_origins_are_the_owners_last_ones(connection: sa.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_ORIGINS", 3)
    ada, operator = add_account(connection, "ada").id, add_account(connection, "operator").id
    for number in range(5):
        address = f"192.0.2.{number}"
        opened = sessions.open_session(
            connection, ada, f"token {number}", now=after(number), expires_at=END, address=address, agent="curl"
        )
        sessions.revoke(connection, opened.id, after(60))
    sessions.open_acting(
        connection, ada, operator_id=operator, reason="why", read_only=True, now=after(70), expires_at=END
    )
    assert sessions.origins(connection, ada) == {(f"192.0.2.{number}", "curl") for number in (2, 3, 4)}
    assert sessions.origins(connection, operator) == set()


def test_all_but_one_end_and_only_ones_own(connection: sa.Connection, session: Session) -> None:
    other = add_account(connection, "other").id
    theirs = sessions.open_session(connection, other, "theirs", now=NOW, expires_at=END)
    second = sessions.open_session(connection, session.account_id, "t1", now=NOW, expires_at=END)
    assert not sessions.revoke_own(connection, other, session.id, after(1))
    assert sessions.revoke_all(connection, session.account_id, after(1), keep=second.id) == [session.id]
    assert sessions.revoke_own(connection, session.account_id, second.id, after(2))
    assert [one.id for one in sessions.active(connection, other, after(3))] == [theirs.id]
