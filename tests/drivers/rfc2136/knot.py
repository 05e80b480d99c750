"""A real Knot DNS on loopback: primary for one zone; two of its three keys may update and transfer it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from signal import SIGSTOP

import dns.message
import dns.query
import dns.rdatatype
import dns.tsig
import dns.update
import dns.zone
import pytest

from tests.drivers.dns_contract import INSTALLATION, ZONE, Row
from zlh.drivers.dns_records import plain_name
from zlh.drivers.rfc2136 import Rfc2136, Server, tsig_key
from zlh.drivers.rfc2136.node import is_mark, value_of

HOST = "127.0.0.1"
SECRET, OTHER_SECRET = "emxoLXNlY3JldC1mb3ItdGVzdHMtb25seQ==", "YW5vdGhlci1zZWNyZXQtZm9yLXRlc3Rz"
KEY = tsig_key("ours", SECRET, "hmac-sha256")
STRANGER = tsig_key("stranger", OTHER_SECRET, "hmac-sha256")
READER = tsig_key("reader", OTHER_SECRET, "hmac-sha256")

CONFIG = """\
server:
    rundir: "{folder}"
    listen: "127.0.0.1@{port}"
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: error
database:
    storage: "{folder}"
    journal-db-mode: asynchronous
    journal-db-max-size: 50M
key:
  - id: ours
    algorithm: hmac-sha256
    secret: {secret}
  - id: stranger
    algorithm: hmac-sha256
    secret: {other}
  - id: reader
    algorithm: hmac-sha256
    secret: {other}
acl:
  - id: changes
    key: [ours, stranger]
    action: [update, transfer]
zone:
  - domain: {zone}
    storage: "{folder}"
    file: zone
    zonefile-sync: -1
    acl: changes
"""

ZONE_FILE = """\
@ 3600 IN SOA ns.{zone}. hostmaster.{zone}. 1 3600 600 86400 5
@ 3600 IN NS ns.{zone}.
"""


class Knot:
    """`extra` are lines of the zone file. Started by `start`; `stop` waits until it is gone."""

    def __init__(self, folder: Path, extra: str = "") -> None:
        self._folder = folder
        self.port = _free_port()
        words = {"folder": folder, "port": self.port, "secret": SECRET, "other": OTHER_SECRET, "zone": ZONE}
        (folder / "knot.conf").write_text(CONFIG.format(**words))
        (folder / "zone").write_text(f"$ORIGIN {ZONE}.\n{ZONE_FILE.format(**words)}{extra}")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def server(self) -> Server:
        return Server(HOST, self.port, KEY)

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            command = [find_knotd(), "--config", str(self._folder / "knot.conf")]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"knotd does not answer: {(self._folder / 'log').read_text()}")
            time.sleep(0.01)

    def stop(self, *, kill: bool = False) -> None:
        if self._process is None:
            return
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.wait(30)
        self._process = None

    def freeze(self, signal: int) -> None:
        """SIGSTOP, after which it answers nothing, or SIGCONT."""
        assert self._process is not None
        os.kill(self._process.pid, signal)
        # A signal takes its time to reach every thread: until then one of them may answer.
        while signal == SIGSTOP and not all(map(_stopped, Path(f"/proc/{self._process.pid}/task").iterdir())):
            time.sleep(0.01)

    def update(self, *, delete: bool = False, key: dns.tsig.Key = STRANGER, **record: str | int) -> None:
        """What a stranger does: `kind`, `name`, `value`, and `ttl` or none."""
        update = dns.update.UpdateMessage(ZONE, keyring=key)
        name, kind, value = f"{record['name']}.", str(record["kind"]), _with_dots(record)
        if delete:
            update.delete(name, kind, value)
        else:
            update.add(name, int(record.get("ttl", 300)), kind, value)
        answer = dns.query.tcp(update, HOST, 10, self.port)
        assert answer.rcode() == 0, answer

    def clear(self, kind: str, name: str) -> None:
        """A stranger takes away all of that kind at the name."""
        update = dns.update.UpdateMessage(ZONE, keyring=STRANGER)
        update.delete(f"{name}.", kind)
        answer = dns.query.tcp(update, HOST, 10, self.port)
        assert answer.rcode() == 0, answer

    def records(self) -> list[tuple[str, str, str, int]]:
        """Kind, name, text and TTL of all but SOA and NS."""
        query = dns.message.make_query(f"{ZONE}.", dns.rdatatype.AXFR)
        query.use_tsig(STRANGER)
        zone = dns.zone.Zone(f"{ZONE}.", relativize=False)
        dns.query.inbound_xfr(HOST, zone, query, self.port, 10)
        return [
            (dns.rdatatype.to_text(rdata.rdtype), plain_name(name.to_text()), _text(rdata), ttl)
            for name, ttl, rdata in zone.iterate_rdatas()
            if dns.rdatatype.to_text(rdata.rdtype) not in ("SOA", "NS")
        ]

    def _answers(self) -> bool:
        query = dns.message.make_query(f"{ZONE}.", dns.rdatatype.SOA)
        try:
            return bool(dns.query.tcp(query, HOST, 5, self.port).answer)
        except (OSError, EOFError):
            return False


class KnotFarEnd:
    """As dns_contract has it."""

    def __init__(self, knot: Knot) -> None:
        self.knot = knot
        self.system = Rfc2136(knot.server, ZONE, INSTALLATION)

    async def put(self, kind: str, name: str, value: str, ttl: int = 300) -> None:
        self.knot.update(kind=kind, name=name, value=value, ttl=ttl)

    async def rows(self) -> set[Row]:
        return {row for row in self.knot.records() if not is_mark(row[1])}

    async def marks(self) -> list[str]:
        return [text for _kind, name, text, _ttl in self.knot.records() if is_mark(name)]


def find_knotd() -> str:
    """Skips the test where there is none."""
    found = shutil.which("knotd") or shutil.which("knotd", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("knotd is not installed: apt-get install -y --no-install-recommends knot")
    return found


def _text(rdata: dns.rdata.Rdata) -> str:
    if rdata.rdtype == dns.rdatatype.TXT:
        return b"".join(rdata.strings).decode("ascii", "replace")  # type: ignore[attr-defined]
    return value_of(rdata)


def _stopped(thread: Path) -> bool:
    """By the state in its `stat`, which comes after its name in parentheses."""
    return (thread / "stat").read_text().rpartition(")")[2].split()[0] == "T"


def _with_dots(record: dict[str, str | int]) -> str:
    value = str(record["value"])
    return f"{value}." if record["kind"] in ("SRV", "CNAME", "NS", "DNAME") else value


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
