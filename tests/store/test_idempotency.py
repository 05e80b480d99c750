from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.store.samples import NOW, add_account
from zlh.model.errors import ConflictError, MismatchError
from zlh.store import idempotency
from zlh.store.idempotency import KEPT, TAKE_OVER_AFTER, Fresh, Stored


@pytest.fixture
def account_id(connection: sa.Connection) -> int:
    return add_account(connection).id


def claim(connection: sa.Connection, account_id: int, seconds: float = 0, body: str = "hash") -> Fresh:
    claimed = idempotency.claim(connection, account_id, "key", body, NOW + timedelta(seconds=seconds))
    assert isinstance(claimed, Fresh)
    return claimed


def test_the_answer_is_given_again(connection: sa.Connection, account_id: int) -> None:
    fresh = claim(connection, account_id)
    assert idempotency.complete(connection, fresh, 202, b'{"ok":true}')
    again = idempotency.claim(connection, account_id, "key", "hash", NOW + timedelta(hours=23))
    assert again == Stored(202, b'{"ok":true}')


def test_another_request_with_the_same_key_is_refused(connection: sa.Connection, account_id: int) -> None:
    claim(connection, account_id)
    with pytest.raises(MismatchError):
        claim(connection, account_id, body="other")


def test_keys_belong_to_an_account(connection: sa.Connection, account_id: int) -> None:
    claim(connection, account_id)
    claim(connection, add_account(connection, "grace").id, body="other")


def test_while_it_is_worked_on_the_key_waits(connection: sa.Connection, account_id: int) -> None:
    claim(connection, account_id)
    with pytest.raises(ConflictError) as caught:
        claim(connection, account_id, TAKE_OVER_AFTER.total_seconds() - 1)
    assert caught.value.code == "in_progress"
    assert caught.value.retry_after


def test_who_was_taken_over_does_not_answer(connection: sa.Connection, account_id: int) -> None:
    dead = claim(connection, account_id)
    heir = claim(connection, account_id, TAKE_OVER_AFTER.total_seconds())
    assert not idempotency.complete(connection, dead, 500, b"late")
    assert not idempotency.release(connection, dead)
    assert idempotency.complete(connection, heir, 202, b"done")
    assert not idempotency.complete(connection, heir, 202, b"twice")


def test_a_released_key_may_try_again(connection: sa.Connection, account_id: int) -> None:
    assert idempotency.release(connection, claim(connection, account_id))
    claim(connection, account_id, 1, body="other")


def test_keys_expire_after_a_day(connection: sa.Connection, account_id: int) -> None:
    idempotency.complete(connection, claim(connection, account_id), 202, b"")
    assert idempotency.purge(connection, NOW + KEPT - timedelta(seconds=1)) == 0
    claim(connection, account_id, KEPT.total_seconds(), body="other")
    assert idempotency.purge(connection, NOW + 2 * KEPT) == 1
