"""How often something may be tried: a token bucket per key, in memory, bounded."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from zlh.model.errors import TooManyError

MOST_KEYS = 50_000


class Attempts:
    """`burst` attempts at once per key; all of them come back within `seconds`."""

    def __init__(self, burst: int, seconds: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._rate = burst / seconds
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> None:
        """Uses up one attempt. Raises TooManyError, with the seconds until there is one again."""
        now = self._now()
        level, since = self._buckets.pop(key, (float(self._burst), now))
        level = min(float(self._burst), level + (now - since) * self._rate)
        allowed = level >= 1
        self._buckets[key] = (level - 1 if allowed else level, now)
        if len(self._buckets) > MOST_KEYS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise TooManyError("too many attempts; wait a little", retry_after=(1 - level) / self._rate)

    def give_back(self, key: str) -> None:
        """The attempt was a good one and does not count."""
        if key in self._buckets:
            level, since = self._buckets[key]
            self._buckets[key] = (min(float(self._burst), level + 1), since)


def address_key(address: str) -> str:
    """One household of IPv6 is a /64: its members share a bucket."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
