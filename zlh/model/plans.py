"""Plans: how much one customer may have. Pure sums; the store checks them inside the reserving transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from zlh.model.accounts import Account
from zlh.model.backups import Backup, counted
from zlh.model.containers import ContainerType, Resources
from zlh.model.errors import PlanLimitError


@dataclass(frozen=True, slots=True)
class Plan:
    """Limits over all of a customer's containers together; `defaults` sizes a container that names no size.

    `backups` and `schedules` are how many each container may have. `title` is the name that people read,
    `price_cents` the price of one month in `currency`. `stripe_price` is what Stripe calls that price, empty for a
    plan that is not for sale; who subscribed at one of `former_prices` has the plan too. Who does not pay keeps the
    plan for `grace_days`; after a suspension of `retention_days` teardown is proposed.
    """

    name: str
    games: int
    devs: int
    memory_mib: int
    cpu_cores: int
    disk_gib: int
    defaults: Resources
    title: str = ""
    price_cents: int = 0
    backups: int = 0
    schedules: int = 0
    currency: str = "eur"
    stripe_price: str = ""
    former_prices: tuple[str, ...] = ()
    grace_days: int = 7
    retention_days: int = 30

    @property
    def for_sale(self) -> bool:
        return bool(self.stripe_price)

    def has_price(self, price_id: str) -> bool:
        return bool(price_id) and (price_id == self.stripe_price or price_id in self.former_prices)

    def containers(self, ctype: ContainerType) -> int:
        return self.games if ctype is ContainerType.GAME else self.devs


@dataclass(frozen=True, slots=True)
class Usage:
    games: int = 0
    devs: int = 0
    memory_mib: int = 0
    cpu_cores: int = 0
    disk_gib: int = 0

    @classmethod
    def of(cls, containers: Iterable[tuple[ContainerType, Resources]]) -> Usage:
        usage = cls()
        for ctype, resources in containers:
            usage = usage.plus(ctype, resources)
        return usage

    def plus(self, ctype: ContainerType, resources: Resources) -> Usage:
        return Usage(
            games=self.games + (ctype is ContainerType.GAME),
            devs=self.devs + (ctype is ContainerType.DEV),
            memory_mib=self.memory_mib + resources.memory_mib,
            cpu_cores=self.cpu_cores + resources.cpu_cores,
            disk_gib=self.disk_gib + resources.disk_gib,
        )


LIMITS = (
    ("games", "game containers"),
    ("devs", "dev containers"),
    ("memory_mib", "MiB of memory"),
    ("cpu_cores", "CPU cores"),
    ("disk_gib", "GiB of disk"),
)


EXCEPTIONS = (*(name for name, _ in LIMITS), "backups", "schedules")
"""The limits that an operator may set for one customer."""


def with_exceptions(plan: Plan, exceptions: Mapping[str, int]) -> Plan:
    """The plan as it is for a customer with exceptions (by the names of EXCEPTIONS)."""
    changed: dict[str, Any] = {name: value for name, value in exceptions.items() if name in EXCEPTIONS}
    return replace(plan, **changed)


def plan_of(account: Account, plans: Mapping[str, Plan]) -> Plan | None:
    """The plan that the account has, as it is for that account."""
    plan = plans.get(account.plan or "")
    return with_exceptions(plan, account.plan_exceptions) if plan is not None else None


def covers(plan: Plan, other: Plan) -> bool:
    """Whether it allows no less of anything."""
    return all(getattr(plan, name) >= getattr(other, name) for name in EXCEPTIONS)


def plan_of_price(plans: Mapping[str, Plan], price_id: str) -> Plan | None:
    return next((plan for plan in plans.values() if plan.has_price(price_id)), None)


def exceeded_limits(plan: Plan, wanted: Usage) -> list[dict[str, Any]]:
    """Every limit that is less than what is wanted, with both."""
    return [
        {"limit": name, "allowed": getattr(plan, name), "wanted": getattr(wanted, name), "unit": unit}
        for name, unit in LIMITS
        if getattr(wanted, name) > getattr(plan, name)
    ]


def check_plan(plan: Plan, wanted: Usage) -> None:
    """Raises PlanLimitError naming every limit that `wanted` (the use including the new container) exceeds."""
    exceeded = exceeded_limits(plan, wanted)
    if not exceeded:
        return
    words = "; ".join(f"{item['wanted']} {item['unit']} wanted, {item['allowed']} allowed" for item in exceeded)
    raise PlanLimitError(
        f"plan {plan.name} is not large enough: {words}", details={"plan": plan.name, "exceeded": exceeded}
    )


def check_backups(plan: Plan, backups: Iterable[Backup], *, beyond: int = 0) -> None:
    """Whether a container with these may have one more, or so many `beyond` the plan for a while. Raises
    PlanLimitError."""
    used = counted(backups)
    if used < plan.backups + beyond:
        return
    exceeded = {"limit": "backups", "allowed": plan.backups, "used": used, "wanted": used + 1, "unit": "backups"}
    raise PlanLimitError(
        f"plan {plan.name} allows {plan.backups} backups of each container, and there are {used}; delete one first",
        details={"plan": plan.name, "exceeded": [exceeded]},
    )


def check_schedules(plan: Plan, used: int) -> None:
    """Whether a container with `used` schedules may have one more. Raises PlanLimitError."""
    if used < plan.schedules:
        return
    allowed = plan.schedules
    exceeded = {"limit": "schedules", "allowed": allowed, "used": used, "wanted": used + 1, "unit": "schedules"}
    raise PlanLimitError(
        f"plan {plan.name} allows {allowed} schedules of each container, and there are {used}",
        details={"plan": plan.name, "exceeded": [exceeded]},
    )
