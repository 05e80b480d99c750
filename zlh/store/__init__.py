"""PostgreSQL: one module per aggregate, composed by the caller in one transaction with `Database.run`."""

from zlh.store import accounts, billing_tables, containers, idempotency, keys, operations, sessions, upkeep
from zlh.store.database import Database
from zlh.store.errors import DataDirectoryInUse, EmbeddedError, IllegalMoveError, StoreUnavailable
from zlh.store.vault import Vault, VaultError

__all__ = [
    "DataDirectoryInUse",
    "Database",
    "EmbeddedError",
    "IllegalMoveError",
    "StoreUnavailable",
    "Vault",
    "VaultError",
    "accounts",
    "billing_tables",
    "containers",
    "idempotency",
    "keys",
    "operations",
    "sessions",
    "upkeep",
]
