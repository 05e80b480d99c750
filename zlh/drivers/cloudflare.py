"""A zone at Cloudflare, through its v4 API (decision 0015 tells why not through its SDK).

Facts of its API reference: records are listed in pages of `per_page`, whose `result_info` says how many there are;
`POST .../dns_records/batch` carries out deletes, patches, puts and posts in this order and all or none, 200 of them
on a free plan; a user has 1,200 requests in five minutes, and after that 429 with `Retry-After`; a comment has up to
100 characters on a free plan; a TTL is at least 60 seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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
from zlh.drivers.errors import Invalid, NotFound, Refused, Unreachable
from zlh.drivers.json_http import Answer, JsonHttp, in_one_line, not_served
from zlh.drivers.together import together
from zlh.model.edge import Change, Entry, Found

API = "https://api.cloudflare.com/client/v4"
AT_ONCE = 4
PAGE = 5000
SLICE = 500
"""So many records are read before others have their turn."""

HOSTS_ONE_BY_ONE = 5
"""For more hosts than these the zone is listed: requests are scarcer than bytes."""

PATIENCE_SECONDS = 5.0
"""So long a 429 is waited out here; whoever asks is told of a longer wait."""

SILENT_SECONDS = 60.0
"""After a 429 without Retry-After."""

LONGEST_REST_SECONDS = 300.0
"""Its limits are over five minutes; who says more is not believed."""

LISTINGS = 3
"""A zone that changes while it is listed is listed again, so many times in all."""

NOT_LET_IN = frozenset({6003, 6111, 9106, 9107, 9109, 10000})
GONE = 81044


@dataclass(frozen=True, slots=True)
class Operation:
    """One of a batch; `index` is that of its change, `field` the batch's list that it belongs to."""

    index: int
    field: str
    document: Mapping[str, object]


class Cloudflare:
    """`zone` is the zone's own name there, `token` an API token with Zone.DNS edit for it.

    The API knows no conditions: what strangers have is looked at just before a batch is sent, and what comes in the
    moment between is not seen; it is never overwritten, since records are changed by their ids, but may stand beside
    ours. A batch in which one change is refused changes nothing: its halves are tried, down to the one.
    """

    kind = "cloudflare"
    batch = 100
    per_second = 500.0

    def __init__(self, base_url: str, token: str, zone: str, installation: str) -> None:
        self._zone = plain_name(zone)
        self._installation = installation
        self._http = JsonHttp(base_url, {"Authorization": f"Bearer {token}"})
        self._zone_id: str | None = None
        self._rests_until = float("-inf")

    async def aclose(self) -> None:
        await self._http.aclose()

    async def look(self, names: Collection[str] | None) -> Sequence[Found]:
        return [one.found for one in await self._held(names)]

    async def apply(self, changes: Sequence[Change]) -> Sequence[str | None]:
        there: dict[str, list[Held]] = {change.entry.name: [] for change in changes}
        for one in await self._held(there):
            there[one.entry.name].append(one)
        answers: list[str | None] = [None] * len(changes)
        operations = []
        for index, change in enumerate(changes):
            name = change.entry.name
            taken = step(change, there[name]) if inside(name, self._zone) else self._elsewhere()
            answers[index] = taken.why or None
            operation = self._operation(index, taken, change.entry)
            if operation is not None:
                operations.append(operation)
            there[name] = after(there[name], taken, change)
        if operations:
            await self._send(operations, answers)
        return answers

    def _elsewhere(self) -> Step:
        # Sent all the same, it would be made inside the zone, with the zone's name appended to its own.
        return Step(Do.REFUSE, why=f"the name is not in the zone {self._zone}")

    def _operation(self, index: int, taken: Step, entry: Entry) -> Operation | None:
        if taken.do is Do.MAKE:
            return Operation(index, "posts", self._document(entry))
        if taken.do is Do.OVERWRITE and taken.old is not None:
            return Operation(index, "puts", {"id": taken.old.handle, **self._document(entry)})
        if taken.do is Do.ERASE and taken.old is not None:
            return Operation(index, "deletes", {"id": taken.old.handle})
        return None

    def _document(self, entry: Entry) -> dict[str, object]:
        record: dict[str, object] = {
            "type": entry.kind,
            "name": entry.name,
            "ttl": entry.ttl,
            "comment": mark(self._installation, entry.vmid),
        }
        if entry.kind != "SRV":
            return record | {"content": entry.value, "proxied": False}
        priority, weight, port, target = service_parts(entry.value)
        return record | {"data": {"priority": priority, "weight": weight, "port": port, "target": target}}

    async def _send(self, operations: Sequence[Operation], answers: list[str | None]) -> None:
        problem = await self._batch(operations)
        if problem is None:
            return
        if len(operations) == 1:
            answers[operations[0].index] = problem
            return
        middle = len(operations) // 2
        await self._send(operations[:middle], answers)
        await self._send(operations[middle:], answers)

    async def _batch(self, operations: Sequence[Operation]) -> str | None:
        """None, or why nothing of it was made."""
        body: dict[str, list[object]] = {}
        for operation in operations:
            body.setdefault(operation.field, []).append(operation.document)
        path = f"/zones/{await self._id()}/dns_records/batch"
        answer = await self._call("POST", path, body=body, mutation=True)
        if answer.status < 400:
            return None
        if len(operations) == 1 and operations[0].field == "deletes" and _codes(answer) == {GONE}:
            return None
        return _words(answer)

    async def _held(self, names: Collection[str] | None) -> list[Held]:
        """Of those names, or all names."""
        if names is None:
            return await self._list("")
        here = {name for name in names if inside(name, self._zone)}
        hosts = {_host(name) for name in here}
        if len(hosts) > HOSTS_ONE_BY_ONE:
            everything = await self._list("")
        else:
            answers = await together(hosts, self._list, most=AT_ONCE)
            # Two hosts, of which one ends as the other is called, bring the same records.
            everything = list({one.handle: one for _, found in answers for one in found}.values())
        return [one for one in everything if one.entry.name in here]

    async def _list(self, end: str) -> list[Held]:
        """What has names that end so; with an empty `end` everything."""
        for _ in range(LISTINGS):
            found = await self._list_once(end)
            if found is not None:
                only(found, lambda name: inside(name, self._zone) and name.endswith(end))
                return found
        raise Unreachable("the zone changes faster than it can be listed")

    async def _list_once(self, end: str) -> list[Held] | None:
        """None where it changed between two pages: what is missing then may be there all the same."""
        path = f"/zones/{await self._id()}/dns_records"
        found: list[Held] = []
        ids: set[str] = set()
        total: int | None = None
        page = 1
        wish = {"per_page": str(PAGE), "order": "name", "direction": "asc", **({"name.endswith": end} if end else {})}
        while True:
            params = {**wish, "page": str(page)}
            records, info = await self._page(path, params)
            if total not in (None, info["total_count"]):
                return None
            total = info["total_count"]
            ids.update(str(record.get("id")) for record in records)
            for start in range(0, len(records), SLICE):
                await trio.lowlevel.checkpoint()
                found += self._read(records[start : start + SLICE])
            if page >= info["total_pages"] or not records:
                return found if page == 1 or len(ids) == total else None
            page += 1

    def _read(self, records: Sequence[Mapping[str, Any]]) -> list[Held]:
        return [_held(record, self._installation) for record in records if matters(record.get("type"))]

    async def _page(self, path: str, params: Mapping[str, str]) -> tuple[list[Mapping[str, Any]], Mapping[str, int]]:
        answer = await self._call("GET", path, params=params, mutation=False)
        if answer.status == 404:
            self._zone_id = None
            raise NotFound(f"the zone {self._zone} is not there any more: {_words(answer)}")
        if answer.status >= 400:
            raise Refused(_words(answer), status=answer.status)
        records, info = answer.document.get("result"), answer.document.get("result_info")
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise Invalid("an answer without a list of records")
        if not isinstance(info, dict) or not all(
            isinstance(info.get(k), int) for k in ("total_count", "total_pages")
        ):
            raise Invalid("an answer without `result_info`")
        return records, info

    async def _id(self) -> str:
        if self._zone_id is None:
            answer = await self._call("GET", "/zones", params={"name": self._zone}, mutation=False)
            if answer.status >= 400:
                raise Refused(_words(answer), status=answer.status)
            zones = answer.document.get("result")
            if not isinstance(zones, list):
                raise Invalid("an answer without a list of zones")
            ids = [zone.get("id") for zone in zones if isinstance(zone, dict) and zone.get("name") == self._zone]
            if not ids or not isinstance(ids[0], str):
                raise NotFound(f"the token's user has no zone {self._zone}")
            self._zone_id = ids[0]
        return self._zone_id

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        mutation: bool,
    ) -> Answer:
        """An answer about what was asked for, after the rest that it asks for."""
        while True:
            await self._rest()
            answer = await self._http.call(method, path, params=params, body=body, mutation=mutation)
            if answer.status != 429:
                break
            self._rests_until = trio.current_time() + _retry_after(answer)
        refusal = not_served(answer, _words(answer))
        if refusal is not None:
            raise refusal
        if answer.status == 400 and _codes(answer) & NOT_LET_IN:
            raise Refused(f"it does not let us in: {_words(answer)}", status=400)
        if answer.status < 400 and answer.document.get("success") is not True:
            raise Invalid(f"an answer (status {answer.status}) that is not Cloudflare's", may_have_happened=mutation)
        return answer

    async def _rest(self) -> None:
        seconds = self._rests_until - trio.current_time()
        if seconds > PATIENCE_SECONDS:
            raise Unreachable(f"it wants no requests for another {seconds:.0f} s")
        await trio.sleep(max(0.0, seconds))


def _host(name: str) -> str:
    """The name without the labels of a service: what it is called and what it offers are found together."""
    while name.startswith("_"):
        name = name.partition(".")[2]
    return name


def _retry_after(answer: Answer) -> float:
    words = answer.headers.get("retry-after", "")
    return min(float(words), LONGEST_REST_SECONDS) if words.isascii() and words.isdigit() else SILENT_SECONDS


def _errors(answer: Answer) -> list[Mapping[str, Any]]:
    errors = answer.document.get("errors")
    return [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []


def _codes(answer: Answer) -> set[int]:
    return {error["code"] for error in _errors(answer) if isinstance(error.get("code"), int)}


def _words(answer: Answer) -> str:
    words = [f"{in_one_line(error.get('message'))} ({error.get('code')})" for error in _errors(answer)]
    return in_one_line("; ".join(words)) or f"status {answer.status}"


def _held(record: Mapping[str, Any], installation: str) -> Held:
    kind, name, ttl, handle = record["type"], record.get("name"), record.get("ttl"), record.get("id")
    if not isinstance(name, str) or not isinstance(ttl, int) or not isinstance(handle, str):
        raise Invalid(f"a record without id, name or ttl: {str(record)[:200]}")
    try:
        value = _value(kind, record)
    except ValueError:
        raise Invalid(f"a record with data of an unknown shape: {str(record)[:200]}") from None
    return held(kind, name, value, ttl, record.get("comment"), installation, handle)


def _value(kind: str, record: Mapping[str, Any]) -> str:
    if kind == "SRV":
        data = record.get("data")
        parts = data if isinstance(data, dict) else {}
        return service(parts.get("priority"), parts.get("weight"), parts.get("port"), parts.get("target"))
    if kind == "CNAME":
        return alias(record.get("content"))
    return address(record.get("content"))
