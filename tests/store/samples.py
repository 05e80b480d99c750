"""Rows and values that several tests of the store begin with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from zlh.model.accounts import Account
from zlh.model.containers import Container, ContainerRequest, ContainerType, Resources, Software
from zlh.model.operations import Operation
from zlh.model.plans import Plan
from zlh.store import Vault, accounts, containers

VAULT = Vault([Vault.new_key()])
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SMALL = Resources(memory_mib=1024, cpu_cores=1, disk_gib=10)
PLAN = Plan("test", games=3, devs=2, memory_mib=8192, cpu_cores=8, disk_gib=100, defaults=SMALL)
STEPS = ("clone", "configure", "start")
VMIDS = range(5000, 5010)


def add_account(connection: sa.Connection, name: str = "ada", **fields: Any) -> Account:
    values = {"email": f"{name}@example.com", "username": name, "password_hash": "hash", "now": NOW, **fields}
    return accounts.create(connection, **values)


def owe(
    connection: sa.Connection,
    account_id: int,
    *,
    suspended_at: datetime | None = None,
    suspends_at: datetime | None = None,
) -> Account:
    """Suspended for money since then, or with a grace until then."""
    return accounts.set_entitlement(
        connection,
        account_id,
        plan=None,
        billing_status="past_due",
        suspended_at=suspended_at,
        suspends_at=suspends_at,
        due_at=None,
    )


def a_game(name: str = "My Server", resources: Resources = SMALL) -> ContainerRequest:
    software = Software("minecraft", "1.21", variant="paper", world="earth")
    return ContainerRequest(ContainerType.GAME, name, software, resources, ports=(25565, 25575))


def reserve(connection: sa.Connection, owner_id: int, **changes: Any) -> tuple[Container, Operation]:
    arguments = {
        "request": a_game(),
        "plan": PLAN,
        "vmids": VMIDS,
        "address_pool": None,
        "agent_token": "secret-token",
        "steps": STEPS,
        "now": NOW,
        **changes,
    }
    return containers.reserve(connection, owner_id, **arguments)
