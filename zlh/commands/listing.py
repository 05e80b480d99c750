"""Accounts as a table for people, or as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zlh.model.accounts import Account
from zlh.model.servers import rfc3339_of

COLUMNS = ("id", "user name", "e-mail", "role", "plan", "second factor", "state", "since")
# Where nobody looks at it, lines are as long as they must be: they are searched and cut by others.
WIDE = 250


def show(accounts: Iterable[Account], *, as_json: bool) -> None:
    """Goes to standard output."""
    if as_json:
        print(orjson.dumps([as_dict(account) for account in accounts], option=orjson.OPT_INDENT_2).decode())
        return
    table = Table(*COLUMNS, box=None, pad_edge=False, header_style="bold")
    for account in accounts:
        # Text, so that no bracket in a name is markup; folded, so that nothing is cut off.
        table.add_row(*(Text(cell, overflow="fold") for cell in _cells(account)))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    console.print(table)


def as_dict(account: Account) -> dict[str, object]:
    """Never the password's hash."""
    return {
        "id": account.id,
        "email": account.email,
        "username": account.username,
        "displayName": account.display_name,
        "role": account.role.value,
        "plan": account.plan,
        "createdAt": rfc3339_of(account.created_at),
        "emailVerifiedAt": rfc3339_of(account.email_verified_at),
        "secondFactorAt": rfc3339_of(account.second_factor_at),
        "suspendedAt": rfc3339_of(account.suspended_at),
        "suspendedBy": [who.value for who in account.suspended_by],
        "suspendsAt": rfc3339_of(account.suspends_at),
        "disabledAt": rfc3339_of(account.disabled_at),
    }


def _cells(account: Account) -> tuple[str, ...]:
    return (
        str(account.id),
        account.username,
        account.email,
        account.role.value,
        account.plan or "-",
        "on" if account.second_factor_at else "-",
        state(account),
        _day(account.created_at),
    )


def state(account: Account) -> str:
    """ "active", or what keeps it from being so."""
    found = [
        ("disabled", account.disabled_at),
        ("suspended by an operator", account.operator_suspended_at),
        ("suspended by billing", account.billing_suspended_at),
        ("suspends", account.suspends_at),
    ]
    named = [f"{name} {_day(since)}" for name, since in found if since is not None]
    if account.email_verified_at is None:
        named.append("address unverified")
    return ", ".join(named) or "active"


def _day(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d}"
