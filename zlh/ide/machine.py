"""The addresses of the machine that we run on: what listens there is ours, never a customer's."""

from __future__ import annotations

import ipaddress
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

REMEMBERED_SECONDS = 30.0
_PROC = Path("/proc/net")
_LOCAL = re.compile(r"\|-- (\S+)\n(?: +/\d+ .*\n)*? +/32 host LOCAL")


class Machine:
    """`address in machine`, as the kernel knew it within the last half minute."""

    def __init__(
        self, proc: Path = _PROC, now: Callable[[], float] = time.monotonic, seconds: float = REMEMBERED_SECONDS
    ) -> None:
        self._proc = proc
        self._now = now
        self._seconds = seconds
        self._known: frozenset[Address] = frozenset()
        self._good_until = float("-inf")

    def __contains__(self, address: object) -> bool:
        if self._now() >= self._good_until:
            self._known = self._read() or self._known
            self._good_until = self._now() + self._seconds
        return address in self._known

    def _read(self) -> frozenset[Address]:
        """Those of IPv4 from the routing table, where they are LOCAL, of IPv6 from the list of interfaces."""
        try:
            routes = (self._proc / "fib_trie").read_text("ascii")
        except OSError as error:
            log.warning("this machine's own addresses cannot be read: %s", error)
            return frozenset()
        try:
            interfaces = (self._proc / "if_inet6").read_text("ascii")
        except OSError:
            interfaces = ""  # there is no IPv6 here
        return frozenset(
            [
                *(ipaddress.IPv4Address(text) for text in _LOCAL.findall(routes)),
                *(ipaddress.IPv6Address(int(line.split()[0], 16)) for line in interfaces.splitlines()),
            ]
        )
