"""The life of a signing key, as a pure function of all keys and the time.

    published   in the key set (`/.well-known/jwks.json`), does not sign yet: whoever keeps a copy learns it in time
    signing     the newest whose time to sign has come
    retired     a newer one signs; this one verifies until nothing that it signed is alive
    forgotten   verifies nothing any more
    withdrawn   somebody else may have it: it verifies nothing from that moment

Nothing is ever told to move on: every process looks at the same rows and the same times. Clocks that are a little
apart do no harm, because every key verifies before it signs and long after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from math import inf

from zlh.store.keys import SigningKey

SHORTEST_NOTICE = timedelta(seconds=5)
"""Between the making of a key and its first signature there is at least that, so that every process has heard."""


class KeyState(StrEnum):
    PUBLISHED = "published"
    SIGNING = "signing"
    RETIRED = "retired"
    FORGOTTEN = "forgotten"
    WITHDRAWN = "withdrawn"

    @property
    def verifies(self) -> bool:
        return self in (KeyState.PUBLISHED, KeyState.SIGNING, KeyState.RETIRED)


@dataclass(frozen=True, slots=True)
class KeyRules:
    """A key signs for `signing`; the next one is made `notice` before that is over."""

    signing: timedelta = timedelta(days=90)
    notice: timedelta = timedelta(hours=1)

    @property
    def lead(self) -> timedelta:
        """Between the making of a key and its first signature."""
        return max(self.notice, SHORTEST_NOTICE)


def states(keys: Sequence[SigningKey], now: datetime, alive: timedelta) -> dict[str, KeyState]:
    """The state of each key by its kid. `alive` is for how long after its last signature a key still verifies.

    Where no key's time to sign has come, the first of them signs: there is always one, unless all were withdrawn.
    """
    found = {key.kid: KeyState.WITHDRAWN for key in keys}
    usable = _in_order(keys)
    signing = _signing(usable, now)
    for number, key in enumerate(usable):
        if number < signing:
            last_signature = usable[number + 1].signs_at
            found[key.kid] = KeyState.RETIRED if now <= last_signature + alive else KeyState.FORGOTTEN
        else:
            found[key.kid] = KeyState.SIGNING if number == signing else KeyState.PUBLISHED
    return found


def ends(keys: Sequence[SigningKey], alive: timedelta) -> dict[str, float]:
    """Until when (Unix seconds, inclusive; inf: for ever) each key verifies that was not withdrawn, by its kid: what
    `states` says, for those who ask often."""
    usable = _in_order(keys)
    found = {key.kid: (after.signs_at + alive).timestamp() for key, after in pairwise(usable)}
    return found | {key.kid: inf for key in usable[-1:]}


def next_is_due(keys: Sequence[SigningKey], now: datetime, rules: KeyRules) -> bool:
    """Whether it is time to make the next key; never while one is published that does not sign yet."""
    usable = _in_order(keys)
    signing = _signing(usable, now)
    if signing < len(usable) - 1:
        return False
    return not usable or now >= usable[signing].signs_at + rules.signing - rules.lead


def _in_order(keys: Sequence[SigningKey]) -> list[SigningKey]:
    return sorted((key for key in keys if key.withdrawn_at is None), key=lambda key: (key.signs_at, key.kid))


def _signing(usable: Sequence[SigningKey], now: datetime) -> int:
    return max((number for number, key in enumerate(usable) if key.signs_at <= now), default=0)
