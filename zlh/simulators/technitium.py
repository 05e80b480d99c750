"""A Technitium DNS server's HTTP API, as far as records go; it resolves nothing.

    python -m zlh.simulators.technitium --zone zlh.example --token T --port 5380

Shapes and words are those of the real one's APIDOCS.md and its source. `refuses` are names that cannot be changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import trio

from zlh.simulators.agent.http import Refusal, Request, Response, json_response
from zlh.simulators.far import FarSystem, FaultName, run_until_signal

Row = tuple[str, str, str, int]
Data = dict[str, Any]
RECORDS = "/api/zones/records/"
NEVER = "0001-01-01T00:00:00"
FIELDS = {
    "A": ("ipAddress",),
    "AAAA": ("ipAddress",),
    "CNAME": ("cname",),
    "TXT": ("text",),
    "SRV": ("priority", "weight", "port", "target"),
}


class Wrong(Exception):
    """What it answers with `status: error`."""


@dataclass
class Record:
    name: str
    kind: str
    data: Data
    ttl: int
    comments: str = ""
    disabled: bool = False

    def document(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "disabled": self.disabled,
            "name": self.name,
            "type": self.kind,
            "ttl": self.ttl,
            "rData": self.data,
            "dnssecStatus": "Unknown",
            "lastUsedOn": NEVER,
        }
        if self.comments:
            shown["comments"] = self.comments
        return shown


@dataclass
class Zone:
    name: str
    records: dict[str, list[Record]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Record]:
        return (record for records in self.records.values() for record in records)

    def at(self, name: str) -> list[Record]:
        return self.records.get(name, [])

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": "Primary",
            "internal": False,
            "dnssecStatus": "Unsigned",
            "disabled": False,
        }


class Technitium(FarSystem):
    def __init__(self, zone: str, token: str, port: int = 0) -> None:
        super().__init__(port)
        self.token = token
        self.refuses: set[str] = set()
        self.zone = Zone(zone)
        self._begin()

    def _begin(self) -> None:
        soa = {"primaryNameServer": "server1", "responsiblePerson": f"hostadmin.{self.zone.name}", "serial": 1}
        times = {"refresh": 900, "retry": 300, "expire": 604800, "minimum": 900}
        self.zone.records = {
            self.zone.name: [
                Record(self.zone.name, "NS", {"nameServer": "server1"}, 3600),
                Record(self.zone.name, "SOA", soa | times, 900),
            ]
        }

    # Behind everybody's back

    def put(self, kind: str, name: str, value: str, ttl: int = 300, comments: str = "") -> None:
        """A record as in a zone file."""
        data = dict(zip(FIELDS[kind], _parts(kind, value), strict=True))
        self.zone.records.setdefault(name, []).append(Record(name, kind, data, ttl, comments))

    def lose(self) -> None:
        """Every record but the zone's own."""
        self._begin()

    def rows(self) -> set[Row]:
        """Kind, name, value and TTL of all but the zone's own."""
        shown = [record for record in self.zone if record.kind in FIELDS]
        return {(one.kind, one.name, _value(one), one.ttl) for one in shown}

    def comments(self, name: str) -> list[str]:
        return [record.comments for record in self.zone.at(name)]

    def state(self) -> dict[str, Any]:
        return {"records": sorted(self.rows())}

    # Requests

    async def answer(self, request: Request) -> Response:
        if not request.path.startswith(RECORDS):
            raise Refusal(404, "no such endpoint")
        wish = dict(request.query)
        wish |= dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        if wish.get("token") != self.token:
            return _invalid_token()
        verbs = {"get": self._get, "add": self._add, "update": self._update, "delete": self._delete}
        verb = verbs.get(request.path.removeprefix(RECORDS))
        if verb is None:
            raise Refusal(404, "no such endpoint")
        try:
            if wish.get("zone", self.zone.name) != self.zone.name:
                raise Wrong(f"No such zone was found: {wish['zone']}")
            return json_response({"response": {"zone": self.zone.document(), **verb(wish)}, "status": "ok"})
        except Wrong as wrong:
            return _error(str(wrong))

    def refused(self) -> Response:
        return _error("Access was denied.")

    def changes(self, request: Request) -> bool:
        return not request.path.endswith("/get")

    def _get(self, wish: Mapping[str, str]) -> dict[str, Any]:
        if self.fault(FaultName.STRANGERS):
            stranger = Record("ct-5001.stranger.test", "A", {"ipAddress": "192.0.2.66"}, 3600)
            return {"records": [stranger.document()]}
        shown: Iterable[Record] = self.zone if wish.get("listZone") == "true" else self.zone.at(_domain(wish))
        return {"records": [record.document() for record in shown]}

    def _add(self, wish: Mapping[str, str]) -> dict[str, Any]:
        name, kind = self._place(wish)
        data = _data(kind, wish, "")
        there = self.zone.at(name)
        if any((one.kind, one.data) == (kind, data) for one in there):
            raise Wrong("Cannot add record: record already exists.")
        if any("CNAME" in (one.kind, kind) for one in there):
            raise Wrong("Cannot add record: a CNAME record already exists for the domain name.")
        self.spend()
        record = Record(name, kind, data, _number(wish.get("ttl", "3600")), wish.get("comments", ""))
        if wish.get("overwrite") == "true":
            self.zone.records[name] = [one for one in there if one.kind != kind]
        self.zone.records.setdefault(name, []).append(record)
        return {"addedRecord": record.document()}

    def _update(self, wish: Mapping[str, str]) -> dict[str, Any]:
        name, kind = self._place(wish)
        record = self._record(name, kind, _data(kind, wish, ""))
        if record is None:
            raise Wrong("Cannot update record: the record does not exist.")
        self.spend()
        record.data = record.data | _data(kind, wish, "new", partly=True)
        record.ttl = _number(wish.get("ttl", "3600"))
        record.comments = wish.get("comments", "")
        record.disabled = wish.get("disable") == "true"
        return {"updatedRecord": record.document()}

    def _delete(self, wish: Mapping[str, str]) -> dict[str, Any]:
        name, kind = self._place(wish)
        record = self._record(name, kind, _data(kind, wish, ""))
        if record is not None:
            self.spend()
            self.zone.records[name].remove(record)
        return {}

    def _place(self, wish: Mapping[str, str]) -> tuple[str, str]:
        name, kind = _domain(wish), wish.get("type", "")
        if name != self.zone.name and not name.endswith(f".{self.zone.name}"):
            raise Wrong("The domain name does not belong to the zone.")
        if kind not in FIELDS:
            raise Wrong(f"Type not supported: {kind}")
        if name in self.refuses:
            raise Wrong("The record cannot be changed.")
        return name, kind

    def _record(self, name: str, kind: str, data: Data) -> Record | None:
        return next((one for one in self.zone.at(name) if (one.kind, one.data) == (kind, data)), None)


def _domain(wish: Mapping[str, str]) -> str:
    if not wish.get("domain"):
        raise Wrong("Parameter 'domain' missing.")
    return wish["domain"].lower().rstrip(".")


def _data(kind: str, wish: Mapping[str, str], prefix: str, *, partly: bool = False) -> Data:
    data = {}
    for name in FIELDS[kind]:
        parameter = f"{prefix}{name[0].upper()}{name[1:]}" if prefix else name
        if parameter in wish:
            data[name] = _number(wish[parameter]) if name in ("priority", "weight", "port") else wish[parameter]
        elif not partly:
            raise Wrong(f"Parameter '{parameter}' missing.")
    return data


def _number(text: str) -> int:
    if not text.isdigit():
        raise Wrong(f"The input string '{text}' was not in a correct format.")
    return int(text)


def _parts(kind: str, value: str) -> list[Any]:
    if kind != "SRV":
        return [value]
    priority, weight, port, target = value.split()
    return [int(priority), int(weight), int(port), target]


def _value(record: Record) -> str:
    return " ".join(str(record.data[name]) for name in FIELDS[record.kind])


def _error(words: str) -> Response:
    return json_response(
        {"status": "error", "errorMessage": words, "stackTrace": "   at DnsServerCore.DnsWebService"}
    )


def _invalid_token() -> Response:
    return json_response({"status": "invalid-token", "errorMessage": "Invalid token or session expired."})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m zlh.simulators.technitium", description=__doc__)
    parser.add_argument("--zone", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    options = parser.parse_args()
    trio.run(run_until_signal, Technitium(options.zone, options.token, options.port))


if __name__ == "__main__":
    main()
