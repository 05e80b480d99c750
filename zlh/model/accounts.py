"""Accounts and who is asking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from zlh.model.access import Scope


class Role(StrEnum):
    CUSTOMER = "customer"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def sees_all(self) -> bool:
        return self is not Role.CUSTOMER


class Suspension(StrEnum):
    """Who suspended an account; each lifts only its own."""

    OPERATOR = "operator"
    BILLING = "billing"


@dataclass(frozen=True, slots=True)
class Account:
    """`plan` names an entry of config/plans.toml, or is None; `email` and `username` are unique ignoring case.

    A suspended account may sign in, look at itself and what it has, and fetch its data; a disabled one may not even
    sign in. `suspended_at` is the earlier of the times at which an operator and billing suspended it. `suspends_at`
    is when the grace of an unpaid account ends: no suspension yet. `plan` and `billing_status` follow from what is
    paid and from what an operator gave: `granted_plan`, until `granted_until` where that is set. `plan_exceptions`
    are limits of this account alone. All that is to be reckoned anew at `billing_due_at`. `second_factor_at` is when
    the second factor was switched on.
    """

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
    operator_suspended_at: datetime | None = None
    billing_suspended_at: datetime | None = None
    suspends_at: datetime | None = None
    granted_plan: str | None = None
    granted_until: datetime | None = None
    granted_because: str = ""
    plan_exceptions: Mapping[str, int] = field(default_factory=dict, hash=False)
    billing_due_at: datetime | None = None
    disabled_at: datetime | None = None
    email_verified_at: datetime | None = None
    second_factor_at: datetime | None = None

    @property
    def suspended_by(self) -> tuple[Suspension, ...]:
        by = {Suspension.OPERATOR: self.operator_suspended_at, Suspension.BILLING: self.billing_suspended_at}
        return tuple(who for who, at in by.items() if at is not None)


@dataclass(frozen=True, slots=True)
class Acting:
    """An operator in a customer's place. `read_only` lets nothing be changed."""

    operator_id: int
    read_only: bool


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request: in whose name, with what credential, and when that ends (Unix seconds; inf: never).

    `role` is the one that counts here and now: an operator whose second factor is owed, or whose API key lacks the
    scope, is a customer. `session_id` names the sign-in session, or the API key as "key:<id>". `scopes` is None for a
    sign-in, which may do all that its account may.
    """

    account_id: int
    role: Role
    session_id: str
    expires_at: float
    scopes: frozenset[Scope] | None = None
    acting: Acting | None = None
    second_factor_owed: bool = False

    @property
    def actor_id(self) -> int:
        """Who is really at the keyboard."""
        return self.acting.operator_id if self.acting is not None else self.account_id

    def sees(self, owner_id: int) -> bool:
        return self.role.sees_all or self.account_id == owner_id
