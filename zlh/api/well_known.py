"""GET /.well-known/jwks.json: the public keys by which anybody can verify what this installation signs."""

from __future__ import annotations

from typing import Literal

import orjson
from jwt.algorithms import OKPAlgorithm
from quart import Response
from quart_trio.wrappers import TrioResponse

from zlh.api.answers import Answer
from zlh.api.call import Call

LONGEST_AGE = 300


class Jwk(Answer):
    """RFC 8037; `x` is the public key, 32 bytes in URL-safe base64."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    alg: Literal["EdDSA"]
    use: Literal["sig"]


class Jwks(Answer):
    """The key that signs comes first; those beside it will sign or have signed."""

    keys: list[Jwk]


async def jwks(call: Call) -> Response:
    keys = [
        {**OKPAlgorithm.to_jwk(pair.public, as_dict=True), "kid": pair.kid, "alg": "EdDSA", "use": "sig"}
        for pair in call.services.people.signing_keys.keyring.published()
    ]
    # A copy is gone before a key that it lacks begins to sign.
    age = min(LONGEST_AGE, int(call.services.people.signing_keys.rules.lead.total_seconds()))
    headers = {"Cache-Control": f"public, max-age={age}"}
    return TrioResponse(orjson.dumps({"keys": keys}), 200, headers, content_type="application/json")
