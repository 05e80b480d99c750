"""What a server has at one name, whose it is, and what may be done there. Pure.

TXT records bear our mark: at `_zlh.<name>`, one for each record of ours at the name, as in
"zlh/here vmid=5001 A 10.0.0.5". Record and mark are made and taken away in one step: what bears no mark is not ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.SRV
import dns.update

from zlh.drivers.dns_records import address, mark, marked_vmid, plain_name, service
from zlh.model.edge import Change, Entry, Found, Verb

OUR_KINDS = ("A", "AAAA", "SRV")
KINDS = (*OUR_KINDS, "CNAME")
MARK_TTL_SECONDS = 60
MARKS = "_zlh"
"""The first label of names of marks."""

LONGEST_NAME = 253
"""Without its last dot (RFC 1035, 2.3.4)."""

LONGEST_STRING = 255
"""In a TXT record (RFC 1035, 3.3)."""

Held = dict[tuple[str, str], tuple[int, int]]
"""Of ours, by kind and value: the container's number, and the TTL."""


@dataclass(slots=True)
class Node:
    """`records` are RRsets by kind, and `marks` the RRset at the marks' name, None where there is none."""

    name: str
    records: dict[str, dns.rdataset.Rdataset] = field(default_factory=dict)
    marks: dns.rdataset.Rdataset | None = None

    def take(self, more: dns.rdataset.Rdataset) -> None:
        """TXT records are those at the marks' name. Kinds that do not matter here are left out."""
        kind = dns.rdatatype.to_text(more.rdtype)
        if kind == "TXT":
            self.marks = _together(self.marks, more)
        elif kind in KINDS:
            self.records[kind] = _together(self.records.get(kind), more)

    def forget(self, rdataset: dns.rdataset.Rdataset) -> None:
        """Where it is just that."""
        kind = dns.rdatatype.to_text(rdataset.rdtype)
        if self.marks == rdataset:
            self.marks = None
        elif self.records.get(kind) == rdataset:
            del self.records[kind]

    def ours(self, installation: str) -> Held:
        """Also those whose marks are left alone, with no TTL."""
        present = {
            (kind, value_of(rdata)): rdataset.ttl for kind, rdataset in self.records.items() for rdata in rdataset
        }
        marked = [parsed for rdata in self.marks or () if (parsed := _parse(rdata, installation)) is not None]
        return {key: (vmid, present.get(key, 0)) for vmid, key in marked}

    def found(self, installation: str) -> list[Found]:
        """A mark whose record somebody took away is found as an entry without a TTL: the record is to be made again,
        or the mark to go too."""
        ours = self.ours(installation)
        found = [Found(Entry(vmid, kind, self.name, value, ttl), True) for (kind, value), (vmid, ttl) in ours.items()]
        for kind, rdataset in self.records.items():
            values = [value_of(rdata) for rdata in rdataset]
            found += [
                Found(Entry(0, kind, self.name, value, rdataset.ttl), False)
                for value in values
                if (kind, value) not in ours
            ]
        return found


def _together(some: dns.rdataset.Rdataset | None, more: dns.rdataset.Rdataset) -> dns.rdataset.Rdataset:
    if some is None:
        return more
    for rdata in more:
        some.add(rdata, more.ttl)
    return some


def is_mark(name: str) -> bool:
    return name.startswith(f"{MARKS}.")


def marks_of(name: str) -> str:
    """Where the marks of a name's records are."""
    return f"{MARKS}.{name}"


def value_of(rdata: dns.rdata.Rdata) -> str:
    """As entries have it."""
    if rdata.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
        return address(rdata.to_text())
    if isinstance(rdata, dns.rdtypes.IN.SRV.SRV):
        return service(rdata.priority, rdata.weight, rdata.port, rdata.target.to_text())
    return plain_name(rdata.to_text())


class Planned:
    """The changes of one name against what is there: `answers`, one for each, and the update that makes those that
    are not refused, None where there is nothing to be done."""

    def __init__(self, node: Node, changes: Sequence[Change], installation: str) -> None:
        self._node = node
        self._installation = installation
        self._before = node.ours(installation)
        # Of marks whose records are gone nothing is kept.
        self._after: Held = {key: held for key, held in self._before.items() if self._is_there(key)}
        self.answers = [self._change(change) for change in changes]

    def update(self, zone: dns.name.Name) -> dns.update.UpdateMessage | None:
        if self._after == self._before:
            return None
        update = dns.update.UpdateMessage(zone)
        self._require(update, zone)
        name, marks = dns.name.from_text(self._node.name), dns.name.from_text(marks_of(self._node.name))
        for (kind, value), (vmid, ttl) in self._before.items():
            if self._after.get((kind, value)) != (vmid, ttl):
                update.delete(name, _rdata(kind, value))
                update.delete(marks, self._mark(vmid, kind, value))
        for (kind, value), (vmid, ttl) in self._after.items():
            if self._before.get((kind, value)) != (vmid, ttl):
                update.add(name, ttl, _rdata(kind, value))
                update.add(marks, self._mark_ttl, self._mark(vmid, kind, value))
        return update

    def _is_there(self, key: tuple[str, str]) -> bool:
        kind, value = key
        rdataset = self._node.records.get(kind)
        return rdataset is not None and any(value_of(rdata) == value for rdata in rdataset)

    def _change(self, change: Change) -> str | None:
        problem = self._problem(change)
        if problem is not None:
            return problem
        entry = change.entry
        before = entry if change.verb is Verb.REMOVE else change.before
        if before is not None:
            self._after.pop((before.kind, before.value), None)
        if change.verb is not Verb.REMOVE:
            self._after[entry.kind, entry.value] = entry.vmid, entry.ttl
        return None

    def _problem(self, change: Change) -> str | None:
        kind, value = change.entry.kind, change.entry.value
        if change.verb is Verb.REMOVE:
            stranger = (kind, value) not in self._before and self._is_there((kind, value))
            return f"{change.entry} does not bear our mark any more" if stranger else None
        for there in ("CNAME", kind):
            for rdata in self._node.records.get(there, ()):
                if (there, value_of(rdata)) not in self._before:
                    return f"{there} {self._node.name} {value_of(rdata)} is somebody else's there"
        if len(marks_of(self._node.name)) > LONGEST_NAME:
            return "its name leaves no room for our mark"
        return None

    def _require(self, update: dns.update.UpdateMessage, zone: dns.name.Name) -> None:
        """That all is as it was when the plan was made: what has come since is not ours."""
        name, marks = dns.name.from_text(self._node.name), dns.name.from_text(marks_of(self._node.name))
        changed = self._before.items() ^ self._after.items()
        for kind in {kind for (kind, _value), _held in changed}:
            _as_it_is(update, name, kind, self._node.records.get(kind))
        _as_it_is(update, marks, "TXT", self._node.marks)
        if not self._after.keys() <= self._before.keys():
            _require_it_leads_nowhere(update, name, zone)

    @property
    def _mark_ttl(self) -> int:
        """All TXT records at a name have one: what others wrote there keeps its own."""
        marks = self._node.marks
        return marks.ttl if marks else MARK_TTL_SECONDS

    def _mark(self, vmid: int, kind: str, value: str) -> dns.rdata.Rdata:
        text = f"{mark(self._installation, vmid)} {kind} {value}".encode()
        strings = [text[start : start + LONGEST_STRING] for start in range(0, len(text), LONGEST_STRING)]
        return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)


def _as_it_is(
    update: dns.update.UpdateMessage, name: dns.name.Name, kind: str, rdataset: dns.rdataset.Rdataset | None
) -> None:
    if rdataset is None:
        update.absent(name, dns.rdatatype.from_text(kind))
        return
    for rdata in rdataset:
        update.present(name, rdata)


def _require_it_leads_nowhere(update: dns.update.UpdateMessage, name: dns.name.Name, zone: dns.name.Name) -> None:
    """Neither to another name nor, it or one above it, to other servers: what we make would not be seen."""
    update.absent(name, dns.rdatatype.CNAME)
    while name != zone and name.is_subdomain(zone):
        update.absent(name, dns.rdatatype.NS)
        update.absent(name, dns.rdatatype.DNAME)
        name = name.parent()


def _rdata(kind: str, value: str) -> dns.rdata.Rdata:
    text = f"{value}." if kind in ("SRV", "CNAME") else value
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), text)


def _parse(rdata: dns.rdata.Rdata, installation: str) -> tuple[int, tuple[str, str]] | None:
    """The container's number, and the record, of a mark of ours. Anybody may write there: only what we would."""
    if not isinstance(rdata, dns.rdtypes.ANY.TXT.TXT):
        return None
    comment, kind, value = _split(b"".join(rdata.strings).decode("ascii", "replace"))
    vmid = marked_vmid(comment, installation)
    if vmid is None or kind not in OUR_KINDS:
        return None
    try:
        as_we_write = value_of(_rdata(kind, value)) == value
    except (dns.exception.DNSException, ValueError):
        return None
    return (vmid, (kind, value)) if as_we_write else None


def _split(text: str) -> tuple[str, str, str]:
    parts = text.split(" ", 3)
    if len(parts) < 4:
        return "", "", ""
    return f"{parts[0]} {parts[1]}", parts[2], parts[3]
