from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.store.samples import NOW, VAULT
from zlh.store import Vault, VaultError, keys

numbers = itertools.count()


def make() -> tuple[str, bytes, str]:
    number = next(numbers)
    return f"kid{number}", b"private", "public"


def test_a_key_is_made_once(connection: sa.Connection) -> None:
    first = keys.ensure_signing_key(connection, VAULT, make, NOW)
    assert keys.ensure_signing_key(connection, VAULT, make, NOW) == first
    assert (first.private_pem, first.public_pem, first.retired_at) == (b"private", "public", None)
    assert "private'" not in repr(first)


def test_two_processes_get_the_same_key(engine: sa.Engine) -> None:
    def ensure(_: int) -> str:
        with engine.begin() as connection:
            return keys.ensure_signing_key(connection, VAULT, make, NOW).kid

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ensure, range(8)))) == 1


def test_a_replaced_key_still_verifies_until_it_is_forgotten(connection: sa.Connection) -> None:
    old = keys.ensure_signing_key(connection, VAULT, make, NOW)
    later = NOW + timedelta(days=1)
    new = keys.replace_signing_key(connection, VAULT, make, later)
    assert [key.kid for key in keys.all_keys(connection, VAULT)] == [new.kid, old.kid]
    assert keys.ensure_signing_key(connection, VAULT, make, later) == new
    assert keys.forget_retired(connection, later) == 0
    assert keys.forget_retired(connection, later + timedelta(seconds=1)) == 1
    assert keys.all_keys(connection, VAULT) == [new]


def test_the_private_part_is_sealed(connection: sa.Connection) -> None:
    keys.ensure_signing_key(connection, VAULT, make, NOW)
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
