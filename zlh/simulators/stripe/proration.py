"""What a change in the middle of a period costs: a credit for the time that was paid and is not used, and a charge
for the time that remains. Amounts are whole minor units, each rounded by itself, half away from zero.

As in flexible billing mode, credits are parts of what was billed (one credit for each debit), not of today's price.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Debit:
    """What was billed for an item and a time."""

    item: str
    price: str
    quantity: int
    amount: int
    start: int
    end: int
    invoice_item: str | None = None
    line: str | None = None
    invoice: str | None = None


@dataclass(frozen=True)
class Portion:
    """An item as it is to be from now on; `unit_amount` is for the whole period."""

    item: str
    price: str
    quantity: int
    unit_amount: int


@dataclass(frozen=True)
class Proration:
    """`credits` is the debit of which a part is given back; None: a charge."""

    item: str
    price: str
    quantity: int
    amount: int
    start: int
    end: int
    credits: Debit | None = None


def rounded(amount: int, part: int, whole: int) -> int:
    """`amount * part / whole` for amounts that are not negative."""
    return (2 * amount * part + whole) // (2 * whole)


def credits_of(debits: Iterable[Debit], at: int) -> list[Proration]:
    """What is given back for the time from `at` on."""
    return [
        Proration(
            debit.item,
            debit.price,
            debit.quantity,
            -rounded(debit.amount, debit.end - max(at, debit.start), debit.end - debit.start),
            max(at, debit.start),
            debit.end,
            debit,
        )
        for debit in debits
        if debit.end > at and debit.amount > 0
    ]


def charges_of(portions: Iterable[Portion], at: int, start: int, end: int) -> list[Proration]:
    """What the rest of the period costs."""
    return [
        Proration(
            portion.item,
            portion.price,
            portion.quantity,
            rounded(portion.unit_amount * portion.quantity, end - at, end - start),
            at,
            end,
        )
        for portion in portions
        if end > at
    ]


def changed(before: Sequence[Portion], after: Sequence[Portion]) -> tuple[list[str], list[Portion]]:
    """The items that are not as they were (also those that are gone), and the portions that are new."""
    old, new = ({portion.item: portion for portion in portions} for portions in (before, after))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return names, [new[name] for name in names if name in new]


def debit_of(document: dict[str, Any]) -> Debit:
    return Debit(**document)
