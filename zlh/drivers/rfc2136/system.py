"""A zone that is told by updates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import dns.flags
import dns.message
import dns.name
import dns.rdataset
import dns.rdatatype
import dns.rrset
import trio

from zlh.drivers.dns_records import inside, plain_name
from zlh.drivers.errors import Invalid
from zlh.drivers.rfc2136.node import LONGEST_NAME, OUR_KINDS, Node, Planned, is_mark, marks_of
from zlh.drivers.rfc2136.wire import Connection, Server
from zlh.model.edge import Change, Found

RECORDS_PER_NAME = 60
"""As many of a zone are transferred in the time that four questions for a name take: measured."""

ATTEMPTS = 3
"""For a change whose name is another at each look."""


class Seen:
    """What was at names when they were looked at last; `everything`: at those not among `nodes` there was nothing.
    Of names that only others use no more is kept than that they do."""

    def __init__(self, nodes: Mapping[str, Node] | None = None, *, everything: bool = False) -> None:
        nodes = nodes or {}
        self._nodes = {name: node for name, node in nodes.items() if node.marks is not None or not node.records}
        self._others = set(nodes) - self._nodes.keys()
        self._everything = everything

    def take(self, name: str) -> Node | None:
        """Once: after that it may be another. None where that is not known."""
        if name in self._others:
            return None
        self._others.add(name)
        return self._nodes.pop(name, Node(name) if self._everything else None)


class Rfc2136:
    """A `System`. `zone` is one that the server is primary for and lets the key update and transfer; `installation`
    is what our mark names."""

    kind = "rfc2136"
    batch = 50
    per_second = 200.0

    def __init__(self, server: Server, zone: str, installation: str) -> None:
        self._server = server
        self._zone = dns.name.from_text(zone)
        self._installation = installation
        self._size: int | None = None  # names in the zone when it was transferred last
        self._seen = Seen()

    async def look(self, names: Collection[str] | None) -> Sequence[Found]:
        names = None if names is None else {name for name in names if self._inside(name)}
        self._seen = Seen()
        async with self._server.connect() as connection:
            if names is None or self._size is None or len(names) * RECORDS_PER_NAME > self._size:
                return await self._transferred(connection, names)
            nodes = await self._nodes(connection, names)
        self._seen = Seen(nodes)
        return [found for node in nodes.values() for found in node.found(self._installation)]

    async def apply(self, changes: Sequence[Change]) -> Sequence[str | None]:
        """Each name's changes are one step: all that are not refused are made, or none. First as at the last look;
        names that were not looked at, or are not as they were, are looked at once more."""
        answers: list[str | None] = ["it is not inside the zone"] * len(changes)
        waiting: dict[str, list[int]] = defaultdict(list)
        for index, change in enumerate(changes):
            if self._inside(change.entry.name):
                waiting[change.entry.name].append(index)
        nodes = {name: node for name in waiting if (node := self._seen.take(name)) is not None}
        async with self._server.connect() as connection:
            for _attempt in range(ATTEMPTS):
                # All kinds: a mark whose record was not asked for would pass for one whose record is gone.
                nodes |= await self._nodes(connection, [name for name in waiting if name not in nodes])
                plans = {
                    name: Planned(nodes.pop(name), [changes[index] for index in waiting[name]], self._installation)
                    for name in waiting
                }
                for name in await self._carry_out(connection, plans):
                    for index, answer in zip(waiting.pop(name), plans[name].answers, strict=True):
                        answers[index] = answer
        for name, indices in waiting.items():
            for index in indices:
                answers[index] = f"{name} is somebody else's there, or leads elsewhere"
        return answers

    async def _carry_out(self, connection: Connection, plans: Mapping[str, Planned]) -> list[str]:
        """The names for which that went as planned."""
        updates = {name: update for name, plan in plans.items() if (update := plan.update(self._zone)) is not None}
        made = dict(zip(updates, await connection.update(list(updates.values())), strict=True))
        return [name for name in plans if made.get(name, True)]

    async def aclose(self) -> None:
        pass

    async def _nodes(self, connection: Connection, names: Collection[str]) -> dict[str, Node]:
        """What is at each name; an alias is seen whatever one asks for (RFC 1034, 3.6.2)."""
        asked = [(name, name, kind) for name in names for kind in OUR_KINDS]
        asked += [(name, marks_of(name), "TXT") for name in names if len(marks_of(name)) <= LONGEST_NAME]
        nodes = {name: Node(name) for name in names}
        answers = await self._ask(connection, [(owner, kind) for _name, owner, kind in asked])
        for (name, _owner, _kind), rdataset in zip(asked, answers, strict=True):
            if rdataset is not None:
                nodes[name].take(rdataset)
        await self._forget_wildcards(connection, list(nodes.values()))
        return nodes

    async def _forget_wildcards(self, connection: Connection, nodes: Sequence[Node]) -> None:
        """What a name without records gets from the wildcard above it (RFC 4592) is not at the name. The wildcard
        itself tells which that is; where somebody has the very same at the name, an update is refused."""
        asked: list[tuple[Node, str, str]] = []
        for node in nodes:
            strange = {found.entry.kind for found in node.found(self._installation) if not found.mine}
            asked += [(node, f"*.{node.name.partition('.')[2]}", kind) for kind in strange]
            if node.marks is not None and not node.ours(self._installation):
                asked.append((node, f"*.{node.name}", "TXT"))
        answers = await self._ask(connection, [(wildcard, kind) for _node, wildcard, kind in asked])
        for (node, _wildcard, _kind), rdataset in zip(asked, answers, strict=True):
            if rdataset is not None:
                node.forget(rdataset)

    async def _ask(
        self, connection: Connection, asked: Sequence[tuple[str, str]]
    ) -> list[dns.rdataset.Rdataset | None]:
        """What is at each name of a kind, or the alias that is there instead."""
        owners = [dns.name.from_text(name) for name, _kind in asked]
        kinds = [dns.rdatatype.from_text(kind) for _name, kind in asked]
        questions = [dns.message.make_query(owner, kind, flags=0) for owner, kind in zip(owners, kinds, strict=True)]
        answers = await connection.ask(questions)
        return [self._at(*each) for each in zip(owners, kinds, answers, strict=True)]

    def _at(
        self, owner: dns.name.Name, kind: dns.rdatatype.RdataType, answer: dns.message.Message
    ) -> dns.rdataset.Rdataset | None:
        if answer.flags & dns.flags.AA:
            for rrset in answer.answer:
                if rrset.name == owner and rrset.rdtype in (kind, dns.rdatatype.CNAME):
                    return rrset.to_rdataset()
            return None
        # It names those who know, where a part of the zone was given to other servers; there nothing is ours.
        led = [rrset.name for rrset in answer.authority if rrset.rdtype == dns.rdatatype.NS]
        if not any(name != self._zone and name.is_subdomain(self._zone) for name in led):
            raise Invalid(f"it is not the server of {plain_name(self._zone.to_text())}")
        return None

    def _inside(self, name: str) -> bool:
        return inside(name, plain_name(self._zone.to_text()))

    async def _transferred(self, connection: Connection, names: Collection[str] | None) -> list[Found]:
        nodes = {name: Node(name) for name in names or ()}
        size = 0

        def take(rrset: dns.rrset.RRset) -> None:
            nonlocal size
            size += 1
            name = plain_name(rrset.name.to_text())
            if (rrset.rdtype == dns.rdatatype.TXT) != is_mark(name):
                return
            name = name.partition(".")[2] if is_mark(name) else name
            if names is None or name in names:
                nodes.setdefault(name, Node(name)).take(rrset.to_rdataset())

        await connection.transfer(self._zone, take)
        self._size = size
        self._seen = Seen(nodes, everything=names is None)
        return await trio.to_thread.run_sync(
            lambda: [found for node in nodes.values() for found in node.found(self._installation)]
        )
