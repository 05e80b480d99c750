"""Secrets at rest: what is sealed here cannot be read from a copy of the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class VaultError(Exception):
    """The key does not fit what was sealed: the database belongs to another installation, or a key was lost."""


class Vault:
    """Seals with the first of `keys` and opens with any of them, so that a new key can be put in front.

    A key is what `Fernet.generate_key` returns: 32 random bytes in URL-safe base64. Raises ValueError for others.
    """

    def __init__(self, keys: Sequence[str | bytes]) -> None:
        if not keys:
            raise ValueError("a vault needs a key")
        self._fernet: Final = MultiFernet([Fernet(key) for key in keys])

    @staticmethod
    def new_key() -> str:
        return Fernet.generate_key().decode()

    def seal(self, secret: str) -> bytes:
        return self._fernet.encrypt(secret.encode())

    def open(self, sealed: bytes) -> str:
        """Raises VaultError where no key fits."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise VaultError("no key of this installation opens what the database holds") from None


def vault_of(connection: sa.Connection) -> Vault:
    """The vault that the connection's `Database` was made with. Raises VaultError where it was made without."""
    vault = connection.get_execution_options().get("vault")
    if not isinstance(vault, Vault):
        raise VaultError("this database was opened without a vault")
    return vault
