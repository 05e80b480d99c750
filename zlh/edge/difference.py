"""What must be changed at a target: a pure comparison of what is wanted with what was found."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from zlh.model.edge import Change, Entry, Found, Key, Verb


@dataclass(frozen=True, slots=True)
class Blocked:
    """A wanted entry that cannot be made: `holder` has its place, and is not ours."""

    entry: Entry
    holder: Entry


@dataclass(frozen=True, slots=True)
class Difference:
    """`changes` in the order in which they are to be made. `orphans` bear our mark, but neither is their container
    known nor does this database know to have made them: only a person's word removes those."""

    changes: tuple[Change, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    orphans: tuple[Entry, ...] = ()


def compare(
    wanted: Iterable[Entry],
    found: Iterable[Found],
    *,
    claimed: Mapping[Key, int] | Collection[Key],
    held: Collection[int] = frozenset(),
    known: Collection[int] = frozenset(),
) -> Difference:
    """`claimed` are the keys of what we made or were about to, `held` the containers whose entries are left alone and
    `known` all containers that there are. Nothing that is not ours is in any change."""
    want = {entry.key: entry for entry in wanted if entry.vmid not in held}
    mine: dict[Key, Entry] = {}
    foreign: dict[tuple[str, str], Entry] = {}
    for one in found:
        if one.mine or one.entry.key in claimed:
            mine[one.entry.key] = one.entry
        else:
            foreign.setdefault(one.entry.slot, one.entry)
    for kind, name in list(foreign):
        if kind == "CNAME":
            # A name that is another's alias can have no records of its own (RFC 1034, 3.6.2).
            foreign |= {(entry.kind, name): foreign[kind, name] for entry in want.values() if entry.name == name}
    surplus, orphans = _surplus(mine, want, claimed, held, known)
    changes, blocked = _additions(want, mine, foreign, surplus)
    changes += [Change(Verb.REMOVE, entry, _why(entry, known)) for entry in surplus.values()]
    return Difference(tuple(changes), tuple(blocked), tuple(orphans))


def _surplus(
    mine: Mapping[Key, Entry],
    want: Mapping[Key, Entry],
    claimed: Collection[Key],
    held: Collection[int],
    known: Collection[int],
) -> tuple[dict[Key, Entry], list[Entry]]:
    """What is ours and not wanted: to be removed, and the orphans."""
    surplus: dict[Key, Entry] = {}
    orphans = []
    for key, entry in mine.items():
        if key in want or entry.vmid in held:
            continue
        if key in claimed or entry.vmid in known:
            surplus[key] = entry
        else:
            orphans.append(entry)
    return surplus, orphans


def _additions(
    want: Mapping[Key, Entry],
    mine: Mapping[Key, Entry],
    foreign: Mapping[tuple[str, str], Entry],
    surplus: dict[Key, Entry],
) -> tuple[list[Change], list[Blocked]]:
    """Takes out of `surplus` what a replacement replaces."""
    places: dict[tuple[str, str], list[Key]] = {}
    for key, entry in surplus.items():
        places.setdefault(entry.slot, []).append(key)
    changes, blocked = [], []
    for key, entry in want.items():
        present = mine.get(key)
        if present is not None:
            if present != entry:
                changes.append(Change(Verb.REPLACE, entry, _differs(present, entry), before=present))
        elif entry.slot in foreign:
            blocked.append(Blocked(entry, foreign[entry.slot]))
        elif places.get(entry.slot):
            before = surplus.pop(places[entry.slot].pop())
            changes.append(Change(Verb.REPLACE, entry, f"it was {before.value}", before=before))
        else:
            changes.append(Change(Verb.ADD, entry, "it is missing"))
    return changes, blocked


def _differs(present: Entry, wanted: Entry) -> str:
    if present.ttl != wanted.ttl:
        return f"its TTL was {present.ttl}"
    return f"it was marked as container {present.vmid}'s"


def _why(entry: Entry, known: Collection[int]) -> str:
    return "it is not wanted any more" if entry.vmid in known else "its container is gone"
