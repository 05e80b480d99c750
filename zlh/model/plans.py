"""Plans: how much one customer may have. Pure sums; the store checks them inside the reserving transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zlh.model.backups import Backup, counted
from zlh.model.containers import ContainerType, Resources
from zlh.model.errors import PlanLimitError


@dataclass(frozen=True, slots=True)
class Plan:
    """Limits over all of a customer's containers together; `defaults` sizes a container that names no size.

    `backups` and `schedules` are how many each container may have. `title` is the name that people read,
    `price_cents` the price of one month.
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


def check_plan(plan: Plan, wanted: Usage) -> None:
    """Raises PlanLimitError naming every limit that `wanted` (the use including the new container) exceeds."""
    exceeded = [
        {"limit": name, "allowed": getattr(plan, name), "wanted": getattr(wanted, name), "unit": unit}
        for name, unit in LIMITS
        if getattr(wanted, name) > getattr(plan, name)
    ]
    if not exceeded:
        return
    words = "; ".join(f"{item['wanted']} {item['unit']} wanted, {item['allowed']} allowed" for item in exceeded)
    raise PlanLimitError(
        f"plan {plan.name} is not large enough: {words}", details={"plan": plan.name, "exceeded": exceeded}
    )


def check_backups(plan: Plan, backups: Iterable[Backup]) -> None:
    """Whether a container with these may have one more. Raises PlanLimitError."""
    used = counted(backups)
    if used < plan.backups:
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
