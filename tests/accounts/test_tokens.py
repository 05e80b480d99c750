from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest

from zlh.accounts import Keyring, Tokens, make_key
from zlh.accounts.signer import CLOCK_SKEW_SECONDS
from zlh.model.errors import UnauthenticatedError
from zlh.store.keys import SigningKey

NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def key(signs_at: float = NOW - 1000) -> SigningKey:
    at = datetime.fromtimestamp(signs_at, UTC)
    return SigningKey(*make_key(), at, at)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pair() -> SigningKey:
    return key()


@pytest.fixture
def tokens(pair: SigningKey, clock: Clock) -> Tokens:
    return tokens_of(clock, pair)


def tokens_of(clock: Clock, *keys: SigningKey, remembered: int = 20_000) -> Tokens:
    keyring = Keyring(keys, alive_seconds=660, now=clock)
    return Tokens(keyring, issuer="test", lifetime_seconds=600, now=clock, remembered=remembered)


def forge(pair: SigningKey, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
    claims = {"iss": "test", "aud": "test/api", "sub": "7", "sid": "s", "iat": int(NOW), "exp": int(NOW) + 600}
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode(claims, pair.private_pem, "EdDSA", headers={"kid": pair.kid, "typ": "at+jwt", **(header or {})})


def test_what_was_issued_is_good_until_it_expires(tokens: Tokens, clock: Clock) -> None:
    token = tokens.issue(7, "s")
    for _ in range(2):
        claims = tokens.verify(token)
        assert (claims.account_id, claims.session_id, claims.expires_at) == (7, "s", NOW + 600)
    clock.now += 600
    with pytest.raises(UnauthenticatedError) as caught:
        tokens.verify(token)
    assert caught.value.code == "token_expired"
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"


def test_the_forger_of_these_tests_can_make_a_good_one(tokens: Tokens, pair: SigningKey) -> None:
    assert tokens.verify(forge(pair)).account_id == 7


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"},
        {"aud": "test/ide"},
        {"aud": None},
        {"sub": None},
        {"sub": "seven"},
        {"sub": "7 "},
        {"sub": "+7"},
        {"sub": "07"},
        {"sub": "-7"},
        {"sub": "\u0667"},
        {"sub": "7" * 20},
        {"sub": 7},
        {"sub": True},
        {"sub": ["7"]},
        {"sub": {"7": "7"}},
        {"aud": ["test/api"]},
        {"aud": ["test/api", "test/ide"]},
        {"aud": "test/api "},
        {"iss": ["test"]},
        {"sid": ""},
        {"sid": "a\u0000b"},
        {"sid": "s" * 81},
        {"iat": True},
        {"iat": float(NOW)},
        {"iat": -1},
        {"iat": None},
        {"exp": True},
        {"exp": 1.8e9 + 1},
        {"exp": 10**400},
        {"exp": float("nan")},
        {"exp": [int(NOW) + 1]},
        {"nbf": "now"},
        {"act": "9"},
        {"act": {"sub": "9"}},
        {"act": {"sub": 9, "ro": False}},
        {"act": {"sub": "9", "ro": 0}},
        {"act": {"sub": "9", "ro": "no"}},
        {"act": []},
        {"header": {"jku": "https://thief.example/keys"}},
        {"header": {"x5u": "https://thief.example/cert"}},
        {"header": {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AA"}}},
        {"header": {"cty": "JWT"}},
        {"sid": None},
        {"sid": 5},
        {"exp": None},
        {"exp": int(NOW) - 1},
        {"exp": "soon"},
        {"iat": int(NOW) + CLOCK_SKEW_SECONDS + 1},
        {"nbf": int(NOW) + 1000},
        {"header": {"typ": "JWT"}},
        {"header": {"kid": "another"}},
        {"header": {"kid": None}},
        {"header": {"kid": ["x"]}},
        {"header": {"crit": ["b64"], "b64": False}},
    ],
)
def test_anything_wrong_is_refused(tokens: Tokens, pair: SigningKey, changes: dict[str, Any]) -> None:
    try:
        token = forge(pair, **changes)
    except (TypeError, jwt.PyJWTError):
        token = _raw(pair, changes)
    with pytest.raises(UnauthenticatedError):
        tokens.verify(token)


def _raw(pair: SigningKey, changes: dict[str, Any]) -> str:
    """A token that the library refuses to write, with a signature over other content."""
    good = forge(pair).split(".")
    header = {"alg": "EdDSA", "kid": pair.kid, "typ": "at+jwt"} | changes.get("header", {})
    claims = {name: value for name, value in changes.items() if name != "header"}
    return f"{_b64(header)}.{_b64(claims) if claims else good[1]}.{good[2]}"


def _b64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_algorithms_are_ours_to_choose(tokens: Tokens, pair: SigningKey) -> None:
    payload = forge(pair).split(".")[1]
    none = f"{_b64({'alg': 'none', 'kid': pair.kid, 'typ': 'at+jwt'})}.{payload}."
    header = _b64({"alg": "HS256", "kid": pair.kid, "typ": "at+jwt"})
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        f"{header}.{payload}".encode(), pair.public_pem.encode()
    )
    hmac = f"{header}.{payload}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    for token in (none, hmac):
        with pytest.raises(UnauthenticatedError):
            tokens.verify(token)


def test_truncated_huge_and_nonsense(tokens: Tokens, pair: SigningKey) -> None:
    good = forge(pair)
    for token in ("", ".", "..", "x" * 100_000, good[:-2], good[: good.rindex(".")], good + "x", "é.é.é", good + "."):
        with pytest.raises(UnauthenticatedError):
            tokens.verify(token)


def test_another_key_with_the_same_name_is_refused(tokens: Tokens, pair: SigningKey) -> None:
    thief = key()
    with pytest.raises(UnauthenticatedError):
        tokens.verify(forge(thief, header={"kid": pair.kid}))


def test_a_key_verifies_for_as_long_as_anything_that_it_signed_is_alive(pair: SigningKey, clock: Clock) -> None:
    old = tokens_of(clock, pair).issue(7, "s")
    both = tokens_of(clock, key(signs_at=NOW), pair)
    assert both.verify(old).account_id == 7
    assert jwt.get_unverified_header(both.issue(7, "s"))["kid"] != pair.kid
    clock.now += 661
    with pytest.raises(UnauthenticatedError):
        tokens_of(clock, key(signs_at=NOW), pair).verify(forge(pair, iat=int(clock.now), exp=int(clock.now) + 9))


def test_the_memory_of_good_tokens_is_bounded(pair: SigningKey, clock: Clock) -> None:
    tokens = tokens_of(clock, pair, remembered=3)
    for number in range(1, 11):
        tokens.verify(tokens.issue(number, "s"))
        assert len(tokens._good) <= 3
    clock.now += 700
    tokens.verify(tokens.issue(1, "s"))
    assert len(tokens._good) == 1


def test_a_token_lives_no_longer_than_the_rule_of_today(tokens: Tokens, pair: SigningKey) -> None:
    assert tokens.verify(forge(pair, exp=int(NOW) + 10**6)).expires_at == NOW + 600


def test_the_text_of_a_token_has_one_spelling(tokens: Tokens) -> None:
    good = tokens.issue(7, "s")
    for other in (good + "=", good + "==", " " + good, good + "\n", good.replace(".", ".\n", 1), good + "!!!!"):
        with pytest.raises(UnauthenticatedError):
            tokens.verify(other)


def test_truncated_anywhere(tokens: Tokens) -> None:
    good = tokens.issue(7, "s")
    for length in range(len(good)):
        with pytest.raises(UnauthenticatedError):
            tokens.verify(good[:length])
