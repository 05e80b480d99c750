"""How often something may be tried: a token bucket per key, in memory, bounded."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from zlh.accounts.rules import Rules
from zlh.model.accounts import Account
from zlh.model.errors import TooManyError
from zlh.model.names import comparison_key

MOST_KEYS = 50_000
MANY = 6
CODE_SECONDS = 3600.0


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


class SignInLimits:
    """What is asked before a password costs anything: per client address and per account.

    A good attempt is given back, so only wrong ones count; but no one gets more than `MANY` times as many good ones,
    for those cost as much as wrong ones do.
    """

    def __init__(self, rules: Rules) -> None:
        seconds = rules.attempts_seconds
        self._per_address = Attempts(rules.attempts_per_address, seconds)
        self._per_account = Attempts(rules.attempts_per_account, seconds)
        self._all_of_address = Attempts(rules.attempts_per_address * MANY, seconds)
        self._all_of_account = Attempts(rules.attempts_per_account * MANY, seconds)
        # Six digits could be guessed in days at the pace that passwords allow.
        self._codes = Attempts(rules.attempts_per_account, CODE_SECONDS)

    def take_address(self, address: str, *, hashing: bool = True) -> None:
        """Raises TooManyError, as all that take something."""
        key = address_key(address)
        self._per_address.take(key)
        if hashing:
            self._all_of_address.take(key)

    def take_account(self, key: str) -> None:
        self._per_account.take(key)
        self._all_of_account.take(key)

    def take_code(self, key: str) -> None:
        self._codes.take(key)

    def good_address(self, address: str) -> None:
        self._per_address.give_back(address_key(address))

    def good_account(self, key: str) -> None:
        self._per_account.give_back(key)

    def good_code(self, key: str) -> None:
        self._codes.give_back(key)


def account_key(account: Account | None, identifier: str, address: str, seen: Iterable[str]) -> str:
    """The name under which attempts on an account are counted: one for its e-mail address and its user name.

    An address in `seen`, those that signed in to it before, counts for itself: whoever guesses from elsewhere does
    not lock its owner out.
    """
    if account is None:
        return f"unknown {comparison_key(identifier)}"
    household = address_key(address)
    known = any(household == address_key(other) for other in seen)
    return f"account {account.id} at {household}" if known else f"account {account.id}"
