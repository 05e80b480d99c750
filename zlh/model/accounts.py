"""Accounts and who is asking."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    CUSTOMER = "customer"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def sees_all(self) -> bool:
        return self is not Role.CUSTOMER


@dataclass(frozen=True, slots=True)
class Account:
    """`plan` names an entry of config/plans.toml, or is None; `email` and `username` are unique ignoring case."""

    id: int
    email: str
    username: str
    password_hash: str = field(repr=False)
    role: Role
    created_at: datetime
    plan: str | None = None
    display_name: str = ""
    first_name: str = ""
    last_name: str = ""
    billing_status: str | None = None
    suspended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request: the account, its sign-in session, and when the token ends (Unix seconds)."""

    account_id: int
    role: Role
    session_id: str
    expires_at: float

    def sees(self, owner_id: int) -> bool:
        return self.role.sees_all or self.account_id == owner_id
