"""Who asks: the access table alone, in a process of its own."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from math import inf
from typing import Any

from tests.bench.figures import Figure
from tests.bench.processes import result_of
from tests.bench.scale import Scale
from zlh.accounts import KEY_PREFIX, AccessTable, Keyring, KeyStanding, Tokens, make_key
from zlh.model.access import Scope
from zlh.model.accounts import Account, Role
from zlh.model.errors import UnauthenticatedError
from zlh.store.keys import SigningKey

ROUNDS = 20
"""How often each token that is known already is shown again."""


async def credentials(scale: Scale) -> list[Figure]:
    found = await result_of("tests.bench.tokens", {"tokens": scale.tokens})
    name = f"who asks, {scale.tokens:,} sessions"
    return [
        Figure(f"{name}: access token, issued", found["issued"], "us"),
        Figure(
            f"{name}: access token, seen for the first time", found["first"], "us", note="the signature is checked"
        ),
        Figure(f"{name}: access token, seen before", found["again"], "us"),
        Figure(f"{name}: access token, forged", found["forged"], "us", note="never remembered"),
        Figure(f"{name}: API key", found["key"], "us"),
        Figure(f"{name}: API key that is none", found["unknownKey"], "us"),
    ]


def measure(order: dict[str, Any]) -> dict[str, float]:
    """Microseconds of processor time for one of each."""
    count = order["tokens"]
    kid, private_pem, public_pem = make_key()
    born = datetime.now(UTC)
    keyring = Keyring([SigningKey(kid, private_pem, public_pem, born, born)], alive_seconds=660)
    tokens = Tokens(keyring, issuer="bench", lifetime_seconds=600)
    access = AccessTable(tokens)
    account = Account(1, "a@example.com", "ada", "none", Role.CUSTOMER, born)
    access.account_changed(account)
    issued: list[str] = []
    cost = {"issued": _each(lambda number: issued.append(tokens.issue(1, f"session{number}")), range(count))}
    cost["first"] = _each(access.principal, issued)
    cost["again"] = _each(access.principal, issued * ROUNDS)
    cost["forged"] = _each(lambda token: _refused(access, token), [token[:-8] + "AAAAAAAA" for token in issued])
    keys = [KEY_PREFIX + secrets.token_urlsafe(32) for _ in range(count)]
    for number, key in enumerate(keys):
        digest = hashlib.sha256(key.encode()).hexdigest()
        access.key_changed(digest, KeyStanding(str(number), 1, frozenset({Scope.SERVERS_READ}), inf))
    cost["key"] = _each(access.principal, keys * ROUNDS)
    cost["unknownKey"] = _each(lambda key: _refused(access, key + "x"), keys)
    return cost


def _refused(access: AccessTable, token: str) -> None:
    try:
        access.principal(token)
    except UnauthenticatedError:
        return
    raise AssertionError("it was let in")


def _each(work: Callable[[Any], object], items: Iterable[Any]) -> float:
    chosen = list(items)
    began = time.process_time()
    for item in chosen:
        work(item)
    return 1e6 * (time.process_time() - began) / len(chosen)


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.stdin.read()))))
