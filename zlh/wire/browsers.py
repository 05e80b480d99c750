"""What answers tell browsers: the one list of fields that every answer carries, and those for pages of other origins.

Nothing here answers with pages, so a browser is told to show, run, frame and guess nothing. There are no cookies: a
page without the access token is a stranger, whatever its origin, and no answer allows credentials of the browser's.
"""

from __future__ import annotations

from typing import Final

from zlh.wire.http import Fields

SAFETY: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    # Of fetches without CORS only; those with it are judged by the fields below.
    (b"cross-origin-resource-policy", b"same-origin"),
    # Always, not only where an origin was named: a cache must not give one page's answer to another.
    (b"vary", b"Origin"),
)
# Without subdomains: the names of containers may be below ours, and they need not speak TLS.
HTTPS_ONLY: Final = (b"strict-transport-security", b"max-age=31536000")
EXPOSED: Final = (
    b"X-Request-Id, Retry-After, Idempotency-Replayed, Accept-Ranges, Content-Disposition, Content-Range, ETag, "
    b"Location, Tus-Extension, Tus-Resumable, Tus-Version, Upload-Expires, Upload-Length, Upload-Metadata, "
    b"Upload-Offset"
)


def safety_fields(public_url: str) -> Fields:
    """What every answer carries; with HSTS where `public_url` is https."""
    return [*SAFETY, HTTPS_ONLY] if public_url.lower().startswith("https://") else list(SAFETY)


def cors_fields(origin: bytes) -> Fields:
    """What an answer to a page of that origin, which is an allowed one, carries beside them."""
    return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", EXPOSED)]
