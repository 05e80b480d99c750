"""A simulated name server that already holds what was published of many containers.

    python -m tests.bench.nameserver

reads one JSON object {"kind", "zone", "token", "records": [[kind, name, value, ttl, comment], ...]} from standard
input, says its address as the simulator alone does, and ends on SIGTERM. `kind` is "technitium" or "cloudflare".
"""

from __future__ import annotations

import json
import sys

import trio

from zlh.simulators.cloudflare import Cloudflare
from zlh.simulators.far import run_until_signal
from zlh.simulators.technitium import Technitium

KINDS = {"technitium": Technitium, "cloudflare": Cloudflare}

if __name__ == "__main__":
    order = json.loads(sys.stdin.readline())
    server = KINDS[order["kind"]](order["zone"], order["token"])
    for kind, name, value, ttl, comment in order["records"]:
        server.put(kind, name, value, ttl, comment)
    trio.run(run_until_signal, server)
