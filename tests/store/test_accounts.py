from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from tests.store.samples import NOW, add_account, owe
from zlh.model.accounts import Account, Role, Suspension
from zlh.model.errors import AbsentError, ConflictError, InvalidError
from zlh.store import accounts

LATER = NOW + timedelta(days=1)


def test_an_account_comes_back_as_it_was_made(connection: sa.Connection) -> None:
    made = add_account(connection, "Ada", role=Role.OPERATOR, plan="large", display_name="Ada L.", first_name="Ada")
    assert made.email == "Ada@example.com"
    assert made.role is Role.OPERATOR
    assert made.created_at == NOW
    assert made.created_at.tzinfo is not None
    assert accounts.by_id(connection, made.id) == made
    assert accounts.all_accounts(connection) == [made]


@pytest.mark.parametrize("identifier", ["ada", "ADA", "Ada@Example.COM", " ada ", "\uff21da"])
def test_found_by_any_spelling(connection: sa.Connection, identifier: str) -> None:
    account = add_account(connection, "Ada")
    assert accounts.by_identifier(connection, identifier) == account


@pytest.mark.parametrize("identifier", ["", "nobody", "nobody@example.com", "a\0b", "' OR 1=1 --"])
def test_a_stranger_is_not_found(connection: sa.Connection, identifier: str) -> None:
    add_account(connection)
    assert accounts.by_identifier(connection, identifier) is None


@pytest.mark.parametrize(
    ("email", "username", "fields"),
    [
        ("ADA@example.com", "other", ["email"]),
        ("other@example.com", "ADA", ["username"]),
        ("ada@EXAMPLE.com", "Ada", ["email", "username"]),
    ],
)
def test_what_is_taken_is_named(connection: sa.Connection, email: str, username: str, fields: list[str]) -> None:
    add_account(connection)
    with pytest.raises(ConflictError) as caught:
        add_account(connection, email=email, username=username)
    assert caught.value.code == "taken"
    assert caught.value.details == {"fields": fields}
    assert accounts.count(connection) == 1


def test_nobody_takes_another_one_s_address_for_a_user_name(connection: sa.Connection) -> None:
    with pytest.raises(InvalidError):
        add_account(connection, "mallory", username="ada@example.com")
    with pytest.raises(InvalidError):
        add_account(connection, "mallory", email="ada")


def test_plan_names_password_and_suspension(connection: sa.Connection) -> None:
    account = add_account(connection)
    entitled = accounts.set_entitlement(
        connection,
        account.id,
        plan="small",
        billing_status="past_due",
        suspended_at=None,
        suspends_at=NOW,
        due_at=NOW,
    )
    assert (entitled.plan, entitled.billing_status, entitled.suspends_at) == ("small", "past_due", NOW)
    assert accounts.set_password_hash(connection, account.id, "new").password_hash == "new"
    named = accounts.set_names(connection, account.id, display_name="A", first_name="B", last_name="C")
    assert (named.display_name, named.first_name, named.last_name) == ("A", "B", "C")
    assert accounts.suspend(connection, account.id, NOW).suspended_at == NOW
    assert accounts.suspend(connection, account.id, NOW + timedelta(days=1)).suspended_at == NOW
    assert accounts.unsuspend(connection, account.id).suspended_at is None


@pytest.mark.parametrize("operator", [None, NOW, LATER], ids=["", "operator first", "operator later"])
@pytest.mark.parametrize("billing", [None, NOW, LATER], ids=["", "billing first", "billing later"])
def test_each_lifts_only_its_own_suspension(
    connection: sa.Connection, operator: datetime | None, billing: datetime | None
) -> None:
    account_id = add_account(connection).id

    def impose() -> Account:
        if operator is not None:
            accounts.suspend(connection, account_id, operator)
        return owe(connection, account_id, suspended_at=billing)

    account = impose()
    assert account.suspended_at == min((at for at in (operator, billing) if at is not None), default=None)
    assert (account.operator_suspended_at, account.billing_suspended_at) == (operator, billing)
    imposed = {Suspension.OPERATOR: operator, Suspension.BILLING: billing}
    assert account.suspended_by == tuple(who for who, at in imposed.items() if at is not None)
    paid = owe(connection, account_id)
    assert paid.suspended_at == operator
    impose()
    assert accounts.unsuspend(connection, account_id).suspended_at == billing


def test_a_grace_that_ends_suspends_nothing_by_itself(connection: sa.Connection) -> None:
    account_id = add_account(connection).id
    account = owe(connection, account_id, suspends_at=NOW)
    assert (account.suspended_at, account.suspends_at, account.suspended_by) == (None, NOW, ())


def test_counting_by_role(connection: sa.Connection) -> None:
    add_account(connection, "ada")
    add_account(connection, "grace", role=Role.ADMIN)
    assert accounts.count(connection) == 2
    assert accounts.count(connection, Role.ADMIN) == 1


def test_changing_nobody_says_so(connection: sa.Connection) -> None:
    with pytest.raises(AbsentError):
        owe(connection, 404)
    with pytest.raises(AbsentError):
        accounts.lock(connection, 404)
