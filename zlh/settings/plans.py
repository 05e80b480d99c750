"""config/plans.toml: what a customer of each plan may have."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from zlh.model.containers import Resources
from zlh.model.plans import Plan
from zlh.settings.load import Problems, read_table, read_toml
from zlh.settings.values import key

MOST = 1_000_000_000


def _currency(value: str) -> str | None:
    plain = len(value) == 3 and value.isascii() and value.isalpha() and value.islower()
    return None if plain else 'three lower-case letters expected, such as "eur"'


@dataclasses.dataclass(frozen=True, slots=True)
class _Limits:
    title: str = ""
    price_cents: int = key(0, minimum=0, maximum=MOST)
    currency: str = key("", check=_currency)
    stripe_price: str = ""
    former_prices: tuple[str, ...] = ()
    grace_days: int = key(0, minimum=0, maximum=365)
    retention_days: int = key(0, minimum=0, maximum=3650)
    games: int = key(0, minimum=0, maximum=MOST)
    devs: int = key(0, minimum=0, maximum=MOST)
    memory_mib: int = key(0, minimum=1, maximum=MOST)
    cpu_cores: int = key(0, minimum=1, maximum=MOST)
    disk_gib: int = key(0, minimum=1, maximum=MOST)
    backups: int = key(0, minimum=0, maximum=MOST)
    schedules: int = key(0, minimum=0, maximum=MOST)


@dataclasses.dataclass(frozen=True, slots=True)
class _Sizes:
    memory_mib: int = key(0, minimum=1, maximum=MOST)
    cpu_cores: int = key(0, minimum=1, maximum=MOST)
    disk_gib: int = key(0, minimum=1, maximum=MOST)


def load_plans(path: Path) -> dict[str, Plan]:
    """Plans by name. Raises SettingsError with every problem; every key of every plan must be there."""
    problems = Problems()
    document = read_toml(path, problems)
    plans = {}
    for name, table in document.items():
        plan = _plan(name, table, str(path), problems)
        if plan is not None:
            plans[name] = plan
    _refuse_shared_prices(plans, str(path), problems)
    problems.raise_if_any()
    return plans


def _refuse_shared_prices(plans: dict[str, Plan], origin: str, problems: Problems) -> None:
    """Who pays a price has its plan: it can be one plan's only."""
    holders: dict[str, str] = {}
    for plan in plans.values():
        for price in (plan.stripe_price, *plan.former_prices):
            holder = holders.setdefault(price, plan.name)
            if price and holder != plan.name:
                problems.add(origin, f"[{plan.name}]", f"{price} is a price of {holder}, too")


def _plan(name: str, table: Any, origin: str, problems: Problems) -> Plan | None:
    if not isinstance(table, dict):
        problems.add(origin, name, "a table expected")
        return None
    limits = _complete(_Limits, {k: v for k, v in table.items() if k != "defaults"}, origin, f"[{name}] ", problems)
    sizes = _complete(_Sizes, table.get("defaults", {}), origin, f"[{name}.defaults] ", problems)
    if limits is None or sizes is None:
        return None
    defaults = Resources(**sizes)
    for field in dataclasses.fields(Resources):
        if getattr(defaults, field.name) > limits[field.name]:
            problems.add(origin, f"[{name}.defaults] {field.name}", "is more than the plan allows in all")
    return Plan(name=name, defaults=defaults, **limits)


def _complete(cls: type, table: Any, origin: str, prefix: str, problems: Problems) -> dict[str, Any] | None:
    before = len(problems.found)
    chosen = read_table(cls, table, origin, prefix, problems)
    if isinstance(table, dict):
        for field in dataclasses.fields(cls):
            if field.name not in table:
                problems.add(origin, prefix + field.name, "missing")
    if len(problems.found) > before:
        return None
    return {name: value for name, (value, _) in chosen.items()}
