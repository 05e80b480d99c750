"""Tokens that this installation would never issue, some of them signed with its own key, as nobody outside could."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from tests.api.world import World
from zlh.model.accounts import Account

Sign = Callable[[bytes], bytes]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Forger:
    """Forges access tokens of `account`, whose sign-in session is `session`; a good one where nothing is changed."""

    def __init__(self, world: World, account: Account, token: str) -> None:
        self.pair = world.services.people.signing_keys.keyring.signing()
        self.account = account
        self.good = token
        self.session = world.access.principal(token).session_id

    def token(
        self,
        header: dict[str, Any] | None = None,
        *,
        sign: Sign | None = None,
        body: bytes | None = None,
        **claims: Any,
    ) -> str:
        """A claim or header that is `...` is left out; `body` goes in place of all claims."""
        now = int(time.time())
        head = {"alg": "EdDSA", "kid": self.pair.kid, "typ": "at+jwt"} | (header or {})
        said = {"iss": "test", "aud": "test/api", "sub": str(self.account.id), "sid": self.session}
        said |= {"iat": now, "exp": now + 600, **claims}
        if body is None:
            body = json.dumps({name: value for name, value in said.items() if value is not ...}).encode()
        signed = f"{b64(json.dumps({n: v for n, v in head.items() if v is not ...}).encode())}.{b64(body)}"
        return f"{signed}.{b64((sign or self.pair.private.sign)(signed.encode()))}"

    @property
    def public_pem(self) -> bytes:
        return self.pair.public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def public_raw(self) -> bytes:
        return self.pair.public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def hmac_with(key: bytes) -> Sign:
    return lambda text: hmac.new(key, text, hashlib.sha256).digest()


def ecdsa(text: bytes) -> bytes:
    r, s = decode_dss_signature(ec.generate_private_key(ec.SECP256R1()).sign(text, ec.ECDSA(SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def rs256(text: bytes) -> bytes:
    return rsa.generate_private_key(65537, 2048).sign(text, PKCS1v15(), SHA256())


def nothing(text: bytes) -> bytes:
    return b""


def thief(text: bytes) -> bytes:
    return ed25519.Ed25519PrivateKey.generate().sign(text)


def forgeries(forger: Forger) -> dict[str, str]:
    """Every one of them is refused, and says so by its name."""
    now = int(time.time())
    make = forger.token
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    raw = b64(public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))
    pem, spki = forger.public_pem, forger.public_raw
    head, claims, signature = forger.good.split(".")
    found: dict[str, str] = {
        "alg none": make({"alg": "none"}, sign=nothing),
        "alg none with a signature": make({"alg": "none"}),
        "alg None": make({"alg": "None"}, sign=nothing),
        "alg nOnE": make({"alg": "nOnE"}, sign=nothing),
        "no alg": make({"alg": ...}),
        "alg null": make({"alg": None}),
        "alg list": make({"alg": ["EdDSA"]}),
        "HS256 with the PEM": make({"alg": "HS256"}, sign=hmac_with(pem)),
        "HS256 with the PEM, stripped": make({"alg": "HS256"}, sign=hmac_with(pem.strip())),
        "HS256 with the raw key": make({"alg": "HS256"}, sign=hmac_with(spki)),
        "HS256 with the JWK's x": make({"alg": "HS256"}, sign=hmac_with(b64(spki).encode())),
        "HS256 with nothing": make({"alg": "HS256"}, sign=hmac_with(b"")),
        "ES256": make({"alg": "ES256"}, sign=ecdsa),
        "RS256": make({"alg": "RS256"}, sign=rs256),
        "Ed25519 by another name": make({"alg": "Ed25519"}),
        "EdDSA of a thief": make(sign=thief),
        "no signature": make(sign=nothing),
        "zeroes": make(sign=lambda text: bytes(64)),
        "another's signature": f"{head}.{claims}.{make().split('.')[2]}",
        "claims changed": f"{head}.{b64(b'{}')}.{signature}",
        "unknown kid": make({"kid": "unknown"}),
        "no kid": make({"kid": ...}),
        "kid null": make({"kid": None}),
        "kid a path": make({"kid": "../../../../etc/passwd"}),
        "kid /dev/null": make({"kid": "/dev/null"}, sign=hmac_with(b"")),
        "kid SQL": make({"kid": "x' UNION SELECT 'key' --"}),
        "kid NUL": make({"kid": forger.pair.kid + "\0"}),
        "kid a list": make({"kid": [forger.pair.kid]}),
        "kid an object": make({"kid": {"kid": forger.pair.kid}}),
        "kid a number": make({"kid": 0}),
        "kid long": make({"kid": "k" * 2000}),
        "jku": make({"jku": "https://thief.example/jwks.json"}, sign=thief),
        "jku, well signed": make({"jku": "https://thief.example/jwks.json"}),
        "x5u": make({"x5u": "https://thief.example/cert.pem"}, sign=thief),
        "x5c": make({"x5c": ["MII"]}, sign=thief),
        "jwk": make({"jwk": {"kty": "OKP", "crv": "Ed25519", "x": raw}}, sign=thief),
        "crit": make({"crit": ["exp"], "exp": now + 600}),
        "crit b64": make({"crit": ["b64"], "b64": False}),
        "cty": make({"cty": "JWT"}),
        "zip": make({"zip": "DEF"}),
        "typ JWT": make({"typ": "JWT"}),
        "no typ": make({"typ": ...}),
        "typ null": make({"typ": None}),
        "typ of an IDE token": make({"typ": "ide+jwt"}),
        "typ in capitals": make({"typ": "AT+JWT"}),
        "typ in full": make({"typ": "application/at+jwt"}),
        "wrong aud": make(aud="test/ide"),
        "aud of another": make(aud="other/api"),
        "aud list": make(aud=["test/api"]),
        "aud among others": make(aud=["test/api", "test/ide"]),
        "no aud": make(aud=...),
        "aud null": make(aud=None),
        "wrong iss": make(iss="other"),
        "iss with a slash": make(iss="test/"),
        "no iss": make(iss=...),
        "iss list": make(iss=["test"]),
        "expired": make(iat=now - 1000, exp=now - 400),
        "expired this second": make(iat=now - 600, exp=now),
        "older than any token": make(iat=now - 700, exp=now + 10**6),
        "from the future": make(iat=now + 120, exp=now + 700),
        "not before": make(nbf=now + 120),
        "no exp": make(exp=...),
        "no iat": make(iat=...),
        "exp a string": make(exp=str(now + 600)),
        "exp a float": make(exp=now + 600.5),
        "exp true": make(exp=True),
        "exp null": make(exp=None),
        "exp huge": make(exp=10**30),
        "exp infinite": make(body=b'{"exp": Infinity}'),
        "exp NaN": make(exp=float("nan")),
        "iat a float": make(iat=float(now)),
        "iat negative": make(iat=-1, exp=now + 600),
        "iat false": make(iat=False),
        "sub with a space": make(sub=f"{forger.account.id} "),
        "sub with a plus": make(sub=f"+{forger.account.id}"),
        "sub with a zero": make(sub=f"0{forger.account.id}"),
        "sub with an underscore": make(sub=f"{forger.account.id}_0"),
        "sub in other digits": make(sub="\u0661"),
        "sub a number": make(sub=forger.account.id),
        "sub a float": make(sub=float(forger.account.id)),
        "sub true": make(sub=True),
        "sub null": make(sub=None),
        "sub a list": make(sub=[str(forger.account.id)]),
        "sub an object": make(sub={"id": forger.account.id}),
        "sub huge": make(sub="9" * 400),
        "sub nobody": make(sub="999999"),
        "sub negative": make(sub="-1"),
        "sub SQL": make(sub="1 OR 1=1"),
        "no sub": make(sub=...),
        "sid a number": make(sid=5),
        "sid empty": make(sid=""),
        "sid NUL": make(sid="a\0"),
        "no sid": make(sid=...),
        "act a word": make(act="admin"),
        "act without ro": make(act={"sub": "1"}),
        "act ro a word": make(act={"sub": "1", "ro": "false"}),
        "act by a customer": make(act={"sub": str(forger.account.id), "ro": False}),
        "claims no object": make(body=b"[]"),
        "claims a number": make(body=b"1"),
        "claims no JSON": make(body=b"{"),
        "claims not UTF-8": make(body=b'{"sub": "\xff"}'),
        "claims deep": make(body=b"[" * 2000),
        "claims empty": make(body=b""),
        "one dot": f"{head}.{claims}",
        "three dots": f"{forger.good}.{signature}",
        "five parts": f"{forger.good}.a.b",
        "dots": "..",
        "padding": f"{forger.good}==",
        "junk after": f"{forger.good}!!!!",
        "two of them": f"{forger.good},{forger.good}",
        "quoted": f'"{forger.good}"',
        "8 KB": make({"kid": "k" * 6000}),
        "null": "null",
        "percent": "%00",
    }
    classes = {0: "nothing", 1: "a character", len(head): "the header", len(head) + 1: "the header and a dot"}
    classes |= {len(head) + 1 + len(claims): "all but the signature", len(forger.good) - 1: "all but a character"}
    classes |= {
        len(head) + 2 + len(claims): "all but the signature's text",
        len(forger.good) - 43: "half a signature",
    }
    return found | {f"cut to {what}": forger.good[:length] for length, what in classes.items() if length}
