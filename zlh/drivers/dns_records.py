"""Records at a DNS server that can bear a comment: whose they are, and what may be done to them. Pure."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from zlh.drivers.errors import Invalid
from zlh.model.edge import Change, Entry, Found, Verb

KINDS = frozenset({"A", "AAAA", "SRV", "CNAME"})
"""Those that matter here. We make no CNAMEs, but where one is nothing else can be."""

_MARK = re.compile(r"zlh/(?P<installation>[a-z0-9-]+) vmid=(?P<vmid>[0-9]{1,10})")


def mark(installation: str, vmid: int) -> str:
    """The comment of a record of ours; under 100 characters, which is all that Cloudflare's free plan takes."""
    return f"zlh/{installation} vmid={vmid}"


def marked_vmid(comment: str, installation: str) -> int | None:
    """None where it is not our mark."""
    found = _MARK.fullmatch(comment)
    return int(found["vmid"]) if found and found["installation"] == installation else None


def matters(kind: object) -> bool:
    """Whether a record's type, whatever it came as, is one of those."""
    return isinstance(kind, str) and kind in KINDS


def plain_name(name: str) -> str:
    return name.lower().rstrip(".")


def inside(name: str, zone: str) -> bool:
    return name == zone or name.endswith(f".{zone}")


def address(value: object) -> str:
    """As entries have it. Raises ValueError."""
    text = value if isinstance(value, str) else ""
    if ":" in text:
        return str(ipaddress.IPv6Address(text))
    try:
        # Ten times as fast as ipaddress, and a zone may have ten thousand.
        return socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, text))
    except OSError:
        raise ValueError("not an IP address") from None


def alias(value: object) -> str:
    """The value of a CNAME record. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("not a name")
    return plain_name(value)


def service(priority: object, weight: object, port: object, target: object) -> str:
    """The value of a SRV record. Raises ValueError."""
    numbers = [priority, weight, port]
    if not isinstance(target, str) or not all(isinstance(number, int | float) for number in numbers):
        raise ValueError("not the parts of a SRV record")
    return " ".join([*(f"{number:.0f}" for number in numbers), plain_name(target)])


def service_parts(value: str) -> tuple[int, int, int, str]:
    """Priority, weight, port and target of a SRV record's value. Raises ValueError."""
    priority, weight, port, target = value.split()
    return int(priority), int(weight), int(port), target


@dataclass(frozen=True, slots=True)
class Held:
    """A record that is there. `marked`: it bears our mark. `bare`: nobody's comment is on it; it is ours where our
    database says so, and only then is a change of it asked for. `handle` is what the server calls it."""

    entry: Entry
    marked: bool
    bare: bool
    handle: str = ""

    @property
    def found(self) -> Found:
        return Found(self.entry, self.marked)


def held(kind: str, name: str, value: str, ttl: int, comment: object, installation: str, handle: str = "") -> Held:
    text = comment if isinstance(comment, str) else ""
    vmid = marked_vmid(text, installation)
    entry = Entry(vmid or 0, kind, plain_name(name), value, ttl)
    return Held(entry, marked=vmid is not None, bare=not text, handle=handle)


def only(there: Iterable[Held], asked_for: Callable[[str], bool]) -> None:
    """Raises Invalid where a name is there that was not asked for. Who answers with another's records may have kept
    back those that were asked for, and what is not seen would be taken for gone."""
    for one in there:
        if not asked_for(one.entry.name):
            raise Invalid(f"it answered with {one.entry}, which was not asked for")


class Do(StrEnum):
    NOTHING = "nothing"
    MAKE = "make"
    OVERWRITE = "overwrite"
    ERASE = "erase"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Step:
    """`old` is what is overwritten or erased, `why` the reason of a refusal."""

    do: Do
    old: Held | None = None
    why: str = ""


def step(change: Change, there: Iterable[Held]) -> Step:
    """What to do for a change, given all that is at its name now. What strangers have is never overwritten, never
    erased, and nothing is put beside it."""
    here = [one for one in there if one.entry.name == change.entry.name]
    before = change.entry if change.verb is Verb.REMOVE else change.before
    old = next((one for one in here if before is not None and one.entry.key == before.key), None)
    if old is not None and not (old.marked or old.bare):
        return _refuse(old)
    if change.verb is Verb.REMOVE:
        return Step(Do.NOTHING) if old is None else Step(Do.ERASE, old)
    present = next((one for one in here if one.entry.key == change.entry.key), None)
    if present is not None and present is not old:
        return _beside(change, present, old)
    stranger = _stranger(change.entry, here, old)
    if stranger is not None:
        return _refuse(stranger)
    if old is None:
        return Step(Do.MAKE)
    return Step(Do.NOTHING) if old.entry == change.entry else Step(Do.OVERWRITE, old)


def _beside(change: Change, present: Held, old: Held | None) -> Step:
    """What is wanted is there already, and is not what was to be replaced."""
    if not present.marked:
        return _refuse(present)
    if old is not None:
        return Step(Do.ERASE, old)
    return Step(Do.NOTHING) if present.entry == change.entry else Step(Do.OVERWRITE, present)


def _stranger(entry: Entry, here: Sequence[Held], old: Held | None) -> Held | None:
    for one in here:
        in_the_way = one.entry.kind in (entry.kind, "CNAME")
        if in_the_way and not one.marked and one is not old:
            return one
    return None


def _refuse(one: Held) -> Step:
    return Step(Do.REFUSE, why=f"{one.entry} is somebody else's there")


def after(there: Sequence[Held], taken: Step, change: Change) -> list[Held]:
    """What is at the name once the step was taken; what it made has no handle yet."""
    left = [one for one in there if one is not taken.old]
    if taken.do in (Do.MAKE, Do.OVERWRITE):
        left.append(Held(change.entry, marked=True, bare=False))
    return left
