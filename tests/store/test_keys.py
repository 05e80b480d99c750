from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from tests.store.samples import NOW, VAULT
from zlh.store import Vault, VaultError, keys
from zlh.store.keys import SigningKey

DAY = timedelta(days=1)


def key(kid: str, signs_at: datetime = NOW) -> SigningKey:
    return SigningKey(kid, b"private", "public", NOW, signs_at)


def test_what_was_added_is_read_the_latest_first(connection: sa.Connection) -> None:
    for kid, days in (("b", 1), ("c", 2), ("a", 0)):
        keys.add(connection, VAULT, key(kid, NOW + days * DAY))
    assert keys.all_keys(connection, VAULT) == [
        key(kid, NOW + days * DAY) for kid, days in (("c", 2), ("b", 1), ("a", 0))
    ]
    assert "private'" not in repr(key("a"))


def test_withdrawing_is_once_and_for_all(connection: sa.Connection) -> None:
    keys.add(connection, VAULT, key("a"))
    assert keys.withdraw_all(connection, NOW) == ["a"]
    keys.add(connection, VAULT, key("b"))
    assert keys.withdraw_all(connection, NOW + DAY) == ["b"]
    found = {key.kid: key.withdrawn_at for key in keys.all_keys(connection, VAULT)}
    assert found == {"a": NOW, "b": NOW + DAY}


def test_forgotten_are_those_that_another_took_over_from(connection: sa.Connection) -> None:
    for kid, days in (("first", 0), ("second", 10), ("third", 20)):
        keys.add(connection, VAULT, key(kid, NOW + days * DAY))
    assert keys.forget_replaced(connection, NOW + 10 * DAY) == 0
    assert keys.forget_replaced(connection, NOW + 10.1 * DAY) == 1
    assert [key.kid for key in keys.all_keys(connection, VAULT)] == ["third", "second"]
    assert keys.forget_replaced(connection, NOW + 1000 * DAY) == 1
    assert [key.kid for key in keys.all_keys(connection, VAULT)] == ["third"]


def test_a_withdrawn_key_takes_over_from_nobody_and_is_forgotten(connection: sa.Connection) -> None:
    keys.add(connection, VAULT, key("stolen", NOW + DAY))
    keys.withdraw_all(connection, NOW + 2 * DAY)
    keys.add(connection, VAULT, key("good"))
    assert keys.forget_replaced(connection, NOW + 2 * DAY) == 0
    assert keys.forget_replaced(connection, NOW + 3 * DAY) == 1
    assert [key.kid for key in keys.all_keys(connection, VAULT)] == ["good"]


def test_the_private_part_is_sealed(connection: sa.Connection) -> None:
    keys.add(connection, VAULT, key("a"))
    stored = connection.execute(sa.text("SELECT private_pem FROM signing_keys")).scalar_one()
    assert b"private" not in bytes(stored)
    with pytest.raises(VaultError):
        keys.all_keys(connection, Vault([Vault.new_key()]))


def test_a_new_vault_key_in_front_opens_what_the_old_one_sealed() -> None:
    old, new = Vault.new_key(), Vault.new_key()
    sealed = Vault([old]).seal("secret")
    assert Vault([new, old]).open(sealed) == "secret"
    with pytest.raises(VaultError):
        Vault([old]).open(Vault([new, old]).seal("secret"))
    with pytest.raises(ValueError, match="key"):
        Vault([])
    with pytest.raises(ValueError, match="Fernet"):
        Vault(["short"])
