"""A Technitium DNS server, through its HTTP API.

Facts of its APIDOCS.md: every call may be a POSTed form, which keeps the token out of URLs; an answer is 200 with
`{"status": "ok", "response": {...}}`, `{"status": "error", "errorMessage": "..."}` or `{"status": "invalid-token"}`;
a zone is listed as a whole, never in pages; a record may have `comments`, which are shown only where there are any.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import trio

from zlh.drivers.dns_records import (
    Do,
    Held,
    Step,
    address,
    after,
    alias,
    held,
    inside,
    mark,
    matters,
    only,
    plain_name,
    service,
    service_parts,
    step,
)
from zlh.drivers.errors import Invalid, Refused
from zlh.drivers.json_http import JsonHttp, in_one_line, not_served
from zlh.drivers.together import together
from zlh.model.edge import Change, Entry, Found

AT_ONCE = 8
RECORDS_PER_NAME = 100
"""Of a zone with less records than this for each name that is asked for, all are listed in one call."""
SLICE = 500
"""So many records are read before others have their turn."""


class Technitium:
    """`zone` is a primary zone there, `token` that of a user who may view, modify and delete in it.

    The API knows no conditions: what strangers have at a name is looked at just before the name is changed, and what
    comes in the moment between is not seen; it is never overwritten, but may stand beside ours. A replacement is one
    call, so that the name never leads nowhere. A record that was disabled is found with a TTL of 0.
    """

    kind = "technitium"
    batch = 50
    per_second = 500.0

    def __init__(self, base_url: str, token: str, zone: str, installation: str) -> None:
        self._token = token
        self._zone = plain_name(zone)
        self._installation = installation
        self._http = JsonHttp(base_url)
        self._size: int | None = None  # records in the zone when it was listed last

    async def aclose(self) -> None:
        await self._http.aclose()

    async def look(self, names: Collection[str] | None) -> Sequence[Found]:
        if names is None:
            return [one.found for one in await self._list()]
        return [one.found for there in (await self._there(names)).values() for one in there]

    async def apply(self, changes: Sequence[Change]) -> Sequence[str | None]:
        by_name: dict[str, list[int]] = {}
        for index, change in enumerate(changes):
            by_name.setdefault(change.entry.name, []).append(index)
        held = await self._there(by_name)

        async def settle(name: str) -> list[str | None]:
            return await self._change([changes[index] for index in by_name[name]], held.get(name, []))

        answers: list[str | None] = [None] * len(changes)
        for name, problems in await together(by_name, settle, most=AT_ONCE):
            for index, problem in zip(by_name[name], problems, strict=True):
                answers[index] = problem
        return answers

    async def _change(self, changes: Sequence[Change], there: Sequence[Held]) -> list[str | None]:
        """Those of one name, one after the other: the second sees what the first did."""
        problems: list[str | None] = []
        for change in changes:
            taken = step(change, there)
            problem = taken.why or await self._take(taken, change)
            problems.append(problem)
            if problem is None:
                there = after(there, taken, change)
        return problems

    async def _take(self, taken: Step, change: Change) -> str | None:
        entry = change.entry
        if taken.do is Do.MAKE:
            wish = {"ttl": str(entry.ttl), "overwrite": "false", "comments": mark(self._installation, entry.vmid)}
            return await self._mutate("add", entry, {**_data(entry), **wish})
        if taken.do is Do.OVERWRITE and taken.old is not None:
            wish = {"ttl": str(entry.ttl), "disable": "false", "comments": mark(self._installation, entry.vmid)}
            return await self._mutate("update", entry, {**_data(taken.old.entry), **_new(_data(entry)), **wish})
        if taken.do is Do.ERASE and taken.old is not None:
            return await self._mutate("delete", taken.old.entry, _data(taken.old.entry))
        return None

    async def _mutate(self, verb: str, entry: Entry, parameters: Mapping[str, str]) -> str | None:
        form = {"zone": self._zone, "domain": entry.name, "type": entry.kind, **parameters}
        document = await self._call(f"/api/zones/records/{verb}", form, mutation=True)
        return None if document.get("status") == "ok" else _words(document)

    async def _there(self, names: Collection[str]) -> dict[str, list[Held]]:
        """By name, and only of those names."""
        there: dict[str, list[Held]] = {name: [] for name in names if inside(name, self._zone)}
        if self._size is not None and self._size < RECORDS_PER_NAME * len(there):
            for one in await self._list():
                if one.entry.name in there:
                    there[one.entry.name].append(one)
            return there
        return dict(await together(there, self._at, most=AT_ONCE))

    async def _at(self, name: str) -> list[Held]:
        there = await self._get({"domain": name})
        only(there, lambda one: one == name)
        return there

    async def _list(self) -> list[Held]:
        everything = await self._get({"domain": self._zone, "listZone": "true"})
        only(everything, lambda one: inside(one, self._zone))
        self._size = len(everything)
        return everything

    async def _get(self, parameters: Mapping[str, str]) -> list[Held]:
        form = {"zone": self._zone, **parameters}
        document = await self._call("/api/zones/records/get", form, mutation=False)
        if document.get("status") != "ok":
            raise Refused(_words(document), status=200)
        response = document.get("response")
        records = response.get("records") if isinstance(response, dict) else None
        if not isinstance(records, list):
            raise Invalid("an answer without `response.records`")
        read = []
        for index, record in enumerate(records):
            if index % SLICE == 0:
                await trio.lowlevel.checkpoint()
            if isinstance(record, dict) and matters(record.get("type")):
                read.append(_held(record, self._installation))
        return read

    async def _call(self, path: str, form: Mapping[str, str], *, mutation: bool) -> dict[str, Any]:
        """A document whose status is "ok", or "error" for a reason that lies in what was asked for."""
        answer = await self._http.call("POST", path, form={"token": self._token, **form}, mutation=mutation)
        document = answer.document
        refusal = not_served(answer, in_one_line(document.get("errorMessage")))
        if refusal is not None:
            raise refusal
        if answer.status != 200 or document.get("status") not in ("ok", "error", "invalid-token"):
            raise Invalid(f"an answer (status {answer.status}) that is not Technitium's", may_have_happened=mutation)
        if document["status"] == "invalid-token":
            raise Refused("it does not accept the token", status=401)
        if document["status"] == "error" and "Access was denied" in _words(document):
            raise Refused("the token's user may not do that in the zone", status=403)
        return document


def _words(document: Mapping[str, Any]) -> str:
    return in_one_line(document.get("errorMessage")) or "an error without words"


def _held(record: Mapping[str, Any], installation: str) -> Held:
    name, ttl, data = record.get("name"), record.get("ttl"), record.get("rData")
    if not isinstance(name, str) or not isinstance(ttl, int) or not isinstance(data, dict):
        raise Invalid(f"a record without name, ttl or rData: {str(record)[:200]}")
    try:
        value = _value(record["type"], data)
    except ValueError:
        raise Invalid(f"a record with data of an unknown shape: {str(record)[:200]}") from None
    shown = 0 if record.get("disabled") is True else ttl
    return held(record["type"], name, value, shown, record.get("comments"), installation)


def _value(kind: str, data: Mapping[str, Any]) -> str:
    if kind == "SRV":
        return service(data.get("priority"), data.get("weight"), data.get("port"), data.get("target"))
    if kind == "CNAME":
        return alias(data.get("cname"))
    return address(data.get("ipAddress"))


def _data(entry: Entry) -> dict[str, str]:
    """A record's data as parameters."""
    if entry.kind != "SRV":
        return {"ipAddress": entry.value}
    priority, weight, port, target = service_parts(entry.value)
    return {"priority": str(priority), "weight": str(weight), "port": str(port), "target": target}


def _new(data: Mapping[str, str]) -> dict[str, str]:
    """The names that `update` has for the data that is to be: newIpAddress, newPriority and so on."""
    return {f"new{name[0].upper()}{name[1:]}": value for name, value in data.items()}
