"""The `Stripe-Signature` header: `t=<seconds>,v1=<hex>`, a `v1` for each secret that is valid."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256


def sign(payload: bytes, secrets: Iterable[str], at: int) -> str:
    signed = f"{at}.".encode() + payload
    signatures = [hmac.new(secret.encode(), signed, sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={at}", *(f"v1={signature}" for signature in signatures)])
