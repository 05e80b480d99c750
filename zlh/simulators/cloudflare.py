"""Cloudflare's v4 API, as far as the records of one zone go.

    python -m zlh.simulators.cloudflare --zone zlh.example --token T --port 5381

Its base address is `<url>/client/v4`. Shapes, codes and words are those of the API reference and of answers that
people have shown. `refuses` are names that cannot be changed; `largest_page` is what it shows at once, whatever is
asked for; `writes` counts the operations that were carried out.
"""

from __future__ import annotations

import argparse
import hashlib
import ipaddress
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import trio

from zlh.simulators.agent.http import Refusal, Request, Response, json_response
from zlh.simulators.far import Broken, FarSystem, FaultName, run_until_signal

Row = tuple[str, str, str, int]
BASE = "/client/v4"
MOST_OPERATIONS = 200
MOST_IN_A_COMMENT = 100
SINCE = "2024-01-01T05:20:00.12345Z"


class Wrong(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def response(self) -> Response:
        errors = [{"code": self.code, "message": self.message}]
        return json_response({"result": None, "success": False, "errors": errors, "messages": []}, self.status)


@dataclass(frozen=True)
class Record:
    id: str
    name: str
    kind: str
    content: str
    ttl: int
    comment: str | None = None
    proxied: bool = False

    def document(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "type": self.kind,
            "content": self.content,
            "proxiable": self.kind in ("A", "AAAA", "CNAME"),
            "proxied": self.proxied,
            "ttl": self.ttl,
            "settings": {},
            "meta": {},
            "comment": self.comment,
            "tags": [],
            "created_on": SINCE,
            "modified_on": SINCE,
        }
        if self.kind == "SRV":
            priority, weight, port, target = self.content.split()
            shown["priority"] = int(priority)
            shown["data"] = {
                "priority": int(priority),
                "weight": int(weight),
                "port": int(port),
                "target": target,
            }
            shown["content"] = f"{weight} {port} {target}"
        return shown


class Cloudflare(FarSystem):
    def __init__(self, zone: str, token: str, port: int = 0) -> None:
        super().__init__(port)
        self.zone = zone
        self.zone_id = hashlib.sha256(zone.encode()).hexdigest()[:32]
        self.token = token
        self.refuses: set[str] = set()
        self.largest_page = 5000
        self.writes = 0
        self.records: dict[str, Record] = {}
        self._ids = (f"{number:032x}" for number in itertools.count(1))

    @property
    def base_url(self) -> str:
        return self.url + BASE

    # Behind everybody's back

    def put(self, kind: str, name: str, value: str, ttl: int = 300, comment: str | None = None) -> None:
        """A record as in a zone file."""
        record = Record(next(self._ids), name, kind, value, ttl, comment)
        self.records[record.id] = record

    def lose(self) -> None:
        """Every record."""
        self.records.clear()

    def rows(self) -> set[Row]:
        """Kind, name, value and TTL."""
        return {(one.kind, one.name, one.content, one.ttl) for one in self.records.values()}

    def comments(self, name: str) -> list[str | None]:
        return [record.comment for record in self.records.values() if record.name == name]

    def state(self) -> dict[str, Any]:
        return {"records": sorted(self.rows())}

    # Requests

    async def answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return self.refused()
        zone = f"{BASE}/zones/{self.zone_id}"
        try:
            match request.method, request.path:
                case "GET", "/client/v4/zones":
                    return self._zones(request.query)
                case "GET", path if path == f"{zone}/dns_records":
                    return self._list(request.query)
                case "POST", path if path == f"{zone}/dns_records/batch":
                    return self._batch(orjson.loads(await request.body()))
                case _:
                    raise Wrong(
                        404, 7003, f"Could not route to {request.path}, perhaps your object identifier is invalid?"
                    )
        except Wrong as wrong:
            return wrong.response()
        except orjson.JSONDecodeError:
            raise Refusal(400, "not JSON") from None

    def refused(self) -> Response:
        return Wrong(403, 10000, "Authentication error").response()

    def changes(self, request: Request) -> bool:
        return request.method == "POST"

    def _zones(self, query: Mapping[str, str]) -> Response:
        zones = []
        if query.get("name", self.zone) == self.zone:
            zones.append({"id": self.zone_id, "name": self.zone, "status": "active", "paused": False, "type": "full"})
        return _page(zones, {"page": "1", "per_page": "20"}, 20)

    def _list(self, query: Mapping[str, str]) -> Response:
        if self.fault(FaultName.STRANGERS):
            stranger = Record("f" * 32, "ct-5001.stranger.test", "A", "192.0.2.66", 300)
            return _page([stranger.document()], query, self.largest_page)
        end, name = query.get("name.endswith"), query.get("name.exact")
        shown = [
            record
            for record in self.records.values()
            if (end is None or record.name.endswith(end)) and (name is None or record.name == name)
        ]
        if query.get("order") == "name":
            shown.sort(key=lambda record: record.name)
        return _page([record.document() for record in shown], query, self.largest_page)

    def _batch(self, body: Mapping[str, Any]) -> Response:
        """All or nothing; but where something breaks in the middle, what was done is done."""
        operations = list(_operations(body))
        if len(operations) > MOST_OPERATIONS:
            raise Wrong(400, 81000, f"A batch has at most {MOST_OPERATIONS} operations.")
        draft = dict(self.records)
        result: dict[str, list[dict[str, Any]]] = {"deletes": [], "patches": [], "puts": [], "posts": []}
        count = 0
        try:
            for verb, wish in operations:
                done = self._operate(draft, verb, wish)
                count += 1
                result[verb].append(done.document())
        except Broken:
            self.records = draft
            self.writes += count
            raise
        self.records = draft
        self.writes += count
        return json_response({"result": result, "success": True, "errors": [], "messages": []})

    def _operate(self, draft: dict[str, Record], verb: str, wish: Mapping[str, Any]) -> Record:
        old = draft.get(str(wish.get("id")))
        if verb != "posts" and old is None:
            raise Wrong(404, 81044, "Record does not exist.")
        if verb == "deletes" and old is not None:
            self._check_name(old.name)
            self.spend()
            return draft.pop(old.id)
        record = self._record(wish, next(self._ids) if old is None else old.id)
        others = [one for one in draft.values() if one.name == record.name and one.id != record.id]
        if any((one.kind, one.content) == (record.kind, record.content) for one in others):
            raise Wrong(400, 81058, "An identical record already exists.")
        if any("CNAME" in (one.kind, record.kind) for one in others):
            raise Wrong(400, 81054, "A CNAME record with that host already exists.")
        self.spend()
        draft[record.id] = record
        return record

    def _record(self, wish: Mapping[str, Any], record_id: str) -> Record:
        kind, name, ttl, comment = wish.get("type"), wish.get("name"), wish.get("ttl"), wish.get("comment")
        if not isinstance(name, str) or not name.endswith(self.zone):
            raise Wrong(400, 9000, "DNS name is invalid.")
        self._check_name(name)
        if not isinstance(ttl, int) or not (ttl == 1 or 60 <= ttl <= 86400):
            raise Wrong(400, 9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic.")
        if comment is not None and len(comment) > MOST_IN_A_COMMENT:
            raise Wrong(400, 9313, f"DNS record has a comment exceeding {MOST_IN_A_COMMENT} characters.")
        return Record(record_id, name, str(kind), _content(kind, wish), ttl, comment, bool(wish.get("proxied")))

    def _check_name(self, name: str) -> None:
        if name in self.refuses:
            raise Wrong(400, 1043, "This DNS record is managed by another product. It cannot be changed.")


def _operations(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for verb in ("deletes", "patches", "puts", "posts"):
        for wish in body.get(verb, ()):
            yield verb, wish


def _content(kind: object, wish: Mapping[str, Any]) -> str:
    if kind == "SRV":
        data = wish.get("data", {})
        return f"{data['priority']} {data['weight']} {data['port']} {data['target']}"
    content = wish.get("content")
    if kind in ("A", "AAAA"):
        version = 4 if kind == "A" else 6
        try:
            right = ipaddress.ip_address(str(content)).version == version
        except ValueError:
            right = False
        if not right:
            raise Wrong(400, 9005, f"Content for {kind} record must be a valid IPv{version} address.")
    return str(content)


def _page(items: Sequence[Any], query: Mapping[str, str], largest: int) -> Response:
    page, size = int(query.get("page", "1")), min(int(query.get("per_page", "100")), largest)
    shown = items[(page - 1) * size : page * size]
    info = {
        "page": page,
        "per_page": size,
        "count": len(shown),
        "total_count": len(items),
        "total_pages": -(-len(items) // size),
    }
    return json_response({"result": shown, "success": True, "errors": [], "messages": [], "result_info": info})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m zlh.simulators.cloudflare", description=__doc__)
    parser.add_argument("--zone", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    options = parser.parse_args()
    trio.run(run_until_signal, Cloudflare(options.zone, options.token, options.port))


if __name__ == "__main__":
    main()
