"""Lists: the newest first, from a cursor on."""

from __future__ import annotations

from collections.abc import Sequence

from zlh.simulators.stripe import names
from zlh.simulators.stripe.errors import Document, invalid, missing
from zlh.simulators.stripe.form import Wish

DEFAULT, MOST = 10, 100


def page(rows: Sequence[Document], wish: Wish, url: str, everything: Sequence[Document]) -> Document:
    """`rows` are those that are wanted, the oldest first; cursors may name any of `everything`."""
    limit = wish.integer("limit")
    if limit is None:
        limit = DEFAULT
    if limit < 1:
        raise invalid("limit", "This value must be greater than or equal to 1.", "parameter_invalid_integer")
    if limit > MOST:
        words = f"This value must be less than or equal to {MOST} (it currently is '{limit}')."
        raise invalid("limit", words, "parameter_invalid_integer")
    newest = list(reversed(rows))
    after, before = wish.text("starting_after"), wish.text("ending_before")
    if after is not None and before is not None:
        raise invalid("starting_after", "You cannot parameterize by both ending_before and starting_after.")
    order = {row["id"]: place for place, row in enumerate(reversed(everything))}
    for name, cursor in (("starting_after", after), ("ending_before", before)):
        if cursor is not None and cursor not in order:
            noun = names.noun(everything[0]["object"]) if everything else "object"
            raise missing(noun, cursor, name)
    if after is not None:
        newest = [row for row in newest if order[row["id"]] > order[after]]
    if before is not None:
        newest = [row for row in newest if order[row["id"]] < order[before]]
        return listed(newest[-limit:], url, more=len(newest) > limit)
    return listed(newest[:limit], url, more=len(newest) > limit)


def listed(rows: Sequence[Document], url: str, *, more: bool = False) -> Document:
    return {"object": "list", "data": list(rows), "has_more": more, "url": url}


def within(wish: Wish, name: str = "created") -> tuple[int, int]:
    """The range that `created`, `created[gte]` and the like leave, both ends in it."""
    low, high = 0, 1 << 62
    if not isinstance(wish.raw(name), dict):
        exactly = wish.integer(name)
        return (low, high) if exactly is None else (exactly, exactly)
    bounds = wish.inside(name)
    for key, shift in (("gte", 0), ("gt", 1)):
        if (bound := bounds.integer(key)) is not None:
            low = max(low, bound + shift)
    for key, shift in (("lte", 0), ("lt", -1)):
        if (bound := bounds.integer(key)) is not None:
            high = min(high, bound + shift)
    return low, high
