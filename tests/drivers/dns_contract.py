"""What every DNS driver promises, whatever stands behind it: a test module gives a fixture `far` and subclasses
`DnsContract` as `Test...`."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from zlh.model.edge import Change, Entry, Found, System, Verb

ZONE = "zlh.test"
INSTALLATION = "here"
"""Whose driver it is; it publishes in ZONE."""

GAME = f"ct-5001.{ZONE}"
SERVICE = f"_minecraft._tcp.{GAME}"
A = Entry(5001, "A", GAME, "10.0.0.5", 60)
AAAA = Entry(5001, "AAAA", GAME, "fd00::5", 60)
SRV = Entry(5001, "SRV", SERVICE, f"0 0 25565 {GAME}", 60)
Row = tuple[str, str, str, int]


class FarEnd(Protocol):
    @property
    def system(self) -> System: ...

    async def put(self, kind: str, name: str, value: str, ttl: int = 300) -> None:
        """A record that a stranger makes, behind the driver's back."""

    async def rows(self) -> set[Row]:
        """Kind, name, value and TTL of every record but SOA, NS and marks."""


def row(entry: Entry) -> Row:
    return entry.kind, entry.name, entry.value, entry.ttl


def rows(*entries: Entry) -> set[Row]:
    return {row(entry) for entry in entries}


def add(entry: Entry) -> Change:
    return Change(Verb.ADD, entry, "it is missing")


def remove(entry: Entry) -> Change:
    return Change(Verb.REMOVE, entry, "its container is gone")


def instead(before: Entry, entry: Entry) -> Change:
    return Change(Verb.REPLACE, entry, f"it was {before.value}", before=before)


async def make(far: FarEnd, *entries: Entry) -> None:
    answers = await far.system.apply([add(entry) for entry in entries])
    assert answers == [None] * len(entries)


async def looked(far: FarEnd, *names: str) -> set[Found]:
    return set(await far.system.look(names or None))


class DnsContract:
    async def test_nothing_is_there_at_first(self, far: FarEnd) -> None:
        assert await looked(far) == set()
        assert await looked(far, GAME) == set()

    async def test_what_was_made_is_found_as_ours_by_name_and_in_the_whole(self, far: FarEnd) -> None:
        await make(far, A, AAAA, SRV)
        assert await far.rows() == rows(A, AAAA, SRV)
        assert await looked(far) == {Found(entry, True) for entry in (A, AAAA, SRV)}
        assert await looked(far, GAME) == {Found(A, True), Found(AAAA, True)}
        assert await looked(far, SERVICE, f"ct-5002.{ZONE}") == {Found(SRV, True)}

    async def test_what_strangers_made_is_found_and_not_ours(self, far: FarEnd) -> None:
        await far.put("A", GAME, "192.0.2.1")
        await far.put("CNAME", f"www.{ZONE}", f"elsewhere.{ZONE}")
        theirs = {
            Found(Entry(0, "A", GAME, "192.0.2.1", 300), False),
            Found(Entry(0, "CNAME", f"www.{ZONE}", f"elsewhere.{ZONE}", 300), False),
        }
        assert await looked(far) == theirs
        assert {found.entry.name for found in await looked(far, GAME)} == {GAME}

    async def test_two_addresses_of_one_name(self, far: FarEnd) -> None:
        other = replace(A, value="10.0.0.6")
        await make(far, A)
        await make(far, other)
        assert await looked(far, GAME) == {Found(A, True), Found(other, True)}
        assert await far.system.apply([remove(A)]) == [None]
        assert await far.rows() == rows(other)

    async def test_what_is_made_at_a_name_later_leaves_be_what_is_there(self, far: FarEnd) -> None:
        """Though nobody looked in between: of many changes, those of one name come in two batches."""
        assert await looked(far) == set()
        for change in (add(A), add(AAAA), remove(A)):
            assert await far.system.apply([change]) == [None]
        assert await far.rows() == rows(AAAA)
        assert await looked(far) == {Found(AAAA, True)}

    async def test_to_make_it_twice_is_once(self, far: FarEnd) -> None:
        await make(far, A, SRV)
        await make(far, A, SRV)
        assert await far.rows() == rows(A, SRV)

    async def test_to_remove_what_is_gone_is_nothing(self, far: FarEnd) -> None:
        assert await far.system.apply([remove(A), remove(SRV)]) == [None, None]
        await make(far, A)
        assert await far.system.apply([remove(A), remove(A)]) == [None, None]
        assert await far.rows() == set()

    async def test_another_value_takes_the_place(self, far: FarEnd) -> None:
        await make(far, A, SRV)
        moved, elsewhere = replace(A, value="10.0.9.9"), replace(SRV, value=f"0 0 25566 {GAME}")
        assert await far.system.apply([instead(A, moved), instead(SRV, elsewhere)]) == [None, None]
        assert await looked(far) == {Found(moved, True), Found(elsewhere, True)}
        assert await far.rows() == rows(moved, elsewhere)

    async def test_another_ttl_and_another_container(self, far: FarEnd) -> None:
        await make(far, A)
        slower = replace(A, ttl=120)
        assert await far.system.apply([instead(A, slower)]) == [None]
        assert await looked(far) == {Found(slower, True)}
        others = replace(slower, vmid=5002)
        assert await far.system.apply([instead(slower, others)]) == [None]
        assert await looked(far) == {Found(others, True)}
        assert await far.rows() == rows(others)

    async def test_what_is_to_be_replaced_may_be_gone(self, far: FarEnd) -> None:
        moved = replace(A, value="10.0.9.9")
        assert await far.system.apply([instead(A, moved)]) == [None]
        assert await far.rows() == rows(moved)

    async def test_a_name_that_a_stranger_took_meanwhile_is_refused(self, far: FarEnd) -> None:
        assert await looked(far, GAME) == set()
        await far.put("A", GAME, "192.0.2.1")
        (answer,) = await far.system.apply([add(A)])
        assert answer
        assert await far.rows() == {("A", GAME, "192.0.2.1", 300)}

    async def test_an_alias_that_a_stranger_made_meanwhile_is_left_alone(self, far: FarEnd) -> None:
        await far.put("CNAME", GAME, f"elsewhere.{ZONE}")
        (answer,) = await far.system.apply([add(A)])
        assert answer
        assert await far.rows() == {("CNAME", GAME, f"elsewhere.{ZONE}", 300)}

    async def test_the_very_record_that_a_stranger_made_meanwhile_is_not_taken_for_ours(self, far: FarEnd) -> None:
        await far.put("A", GAME, A.value, 300)
        (answer,) = await far.system.apply([add(A)])
        assert answer
        assert await looked(far) == {Found(Entry(0, "A", GAME, A.value, 300), False)}

    async def test_a_refusal_of_one_leaves_the_others_be(self, far: FarEnd) -> None:
        await far.put("A", GAME, "192.0.2.1")
        second, third = replace(A, name=f"ct-5002.{ZONE}"), replace(A, name=f"ct-5003.{ZONE}")
        answers = await far.system.apply([add(second), add(A), add(third)])
        assert [answer is None for answer in answers] == [True, False, True]
        assert await far.rows() == {("A", GAME, "192.0.2.1", 300), row(second), row(third)}

    async def test_what_a_stranger_has_beside_ours_stays(self, far: FarEnd) -> None:
        await make(far, A)
        await far.put("TXT", GAME, "words")
        await far.put("A", f"mail.{ZONE}", "192.0.2.7")
        before = await far.rows() - rows(A)
        moved = replace(A, value="10.0.9.9")
        assert await far.system.apply([instead(A, moved)]) == [None]
        assert await far.system.apply([remove(moved)]) == [None]
        assert await far.rows() == before

    async def test_many_at_once(self, far: FarEnd) -> None:
        entries = [
            Entry(5000 + n, "A", f"ct-{5000 + n}.{ZONE}", f"10.1.{n // 250}.{n % 250}", 60)
            for n in range(far.system.batch)
        ]
        await make(far, *entries)
        assert await looked(far) == {Found(entry, True) for entry in entries}
        assert await far.system.apply([remove(entry) for entry in entries]) == [None] * len(entries)
        assert await far.rows() == set()
