"""Whether a webhook is Stripe's: its signature is checked over the bytes as they came, before anything reads them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import orjson
from stripe import SignatureVerificationError, WebhookSignature

from zlh.drivers.errors import Invalid
from zlh.drivers.stripe.wire import EventShape, read
from zlh.model.billing import BillingEvent

TOLERANCE_SECONDS: Final = 300
LONGEST_HEADER: Final = 4096


class WebhookRefused(Exception):
    """Not Stripe's, or not what was agreed. Says why in a word, and nothing of what came."""


def read_webhook(
    body: bytes, signature: str, secrets: Sequence[str], *, now: Callable[[], float] = time.time
) -> BillingEvent:
    """The event of a webhook that bears the signature of one of the secrets (several while they are changed), made
    within five minutes of now, before or after. Raises WebhookRefused, and Invalid for what is signed and no
    event."""
    if not signature.isascii() or not 0 < len(signature) <= LONGEST_HEADER:
        raise WebhookRefused("there is no signature that can be read")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise WebhookRefused("the body is not UTF-8") from None
    if not any(_signed(text, signature, secret) for secret in secrets):
        raise WebhookRefused("the signature is not ours")
    # The library lets what is too old through where it is not told otherwise, and never looks at the future.
    made = _made_at(signature)
    if abs(now() - made) > TOLERANCE_SECONDS:
        raise WebhookRefused("the signature is too old, or of the future")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Invalid("a signed webhook is not JSON") from None
    return read(EventShape, document).model()


def _signed(text: str, signature: str, secret: str) -> bool:
    try:
        return bool(secret) and WebhookSignature.verify_header(text, signature, secret, None)
    except (SignatureVerificationError, ValueError):
        return False


def _made_at(signature: str) -> int:
    """The header was read by the library, which takes the first."""
    return int(next(part.split("=")[1] for part in signature.split(",") if part.startswith("t=")))
