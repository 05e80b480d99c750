"""A client of an HTTP interface that answers in JSON objects: Technitium's, Cloudflare's."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import trio

from zlh.drivers.errors import Invalid, Refused, Unreachable

CONNECTIONS = 8
CONNECT_SECONDS = 5.0
CALL_SECONDS = 30.0
# Under what servers keep a silent connection: no request is written into one that is just being closed.
KEEPALIVE_SECONDS = 3.0
MAX_ANSWER_BYTES = 64 << 20
"""100,000 records or more."""
MAX_WORDS = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """`document` is empty where an answer that is no success had no JSON."""

    status: int
    headers: Mapping[str, str]
    document: dict[str, Any]


class JsonHttp:
    """`headers` go with every request. What they and the requests hold is never in an error. No proxies and no .netrc
    from the environment, no redirects, no compressed answers."""

    def __init__(self, base_url: str, headers: Mapping[str, str] | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._client = httpx.AsyncClient(
            # The authorities are loaded where they are needed: that takes 30 ms.
            verify=ssl.create_default_context() if base_url.startswith("https:") else False,
            timeout=httpx.Timeout(CALL_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(
                max_connections=CONNECTIONS,
                max_keepalive_connections=CONNECTIONS,
                keepalive_expiry=KEEPALIVE_SECONDS,
            ),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "zlh",
                **(headers or {}),
            },
            trust_env=False,
            follow_redirects=False,
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        mutation: bool,
    ) -> Answer:
        """An answer below 500, whatever it says. Raises Unreachable, Invalid."""
        if self._client.is_closed:
            raise Unreachable("the connection is closed")
        content = None if body is None else orjson.dumps(body)
        headers = None if body is None else {"Content-Type": "application/json"}
        request = self._client.build_request(
            method, self._base_url + path, params=params, data=form, content=content, headers=headers
        )
        try:
            with trio.fail_after(CALL_SECONDS):
                response, whole = await self._send(request)
        except trio.TooSlowError:
            raise Unreachable(f"no answer within {CALL_SECONDS:g} s", may_have_happened=mutation) from None
        except (httpx.HTTPError, httpx.StreamError, ssl.SSLError, OSError) as error:
            sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            raise Unreachable(_reason(error), may_have_happened=mutation and sent) from error
        except Invalid as error:
            error.may_have_happened = mutation
            raise
        if response.status_code >= 500:
            raise Unreachable(f"it answered with status {response.status_code}", may_have_happened=mutation)
        try:
            return Answer(response.status_code, response.headers, _document(whole))
        except Invalid as error:
            if response.status_code >= 400:
                return Answer(response.status_code, response.headers, {})
            error.may_have_happened = mutation
            raise

    async def _send(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        response = await self._client.send(request, stream=True)
        try:
            whole = bytearray()
            async for piece in response.aiter_raw():
                whole += piece
                if len(whole) > MAX_ANSWER_BYTES:
                    raise Invalid(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        finally:
            await response.aclose()
        return response, bytes(whole)


def not_served(answer: Answer, words: str) -> Refused | Unreachable | Invalid | None:
    """The error for an answer that is not about what was asked for: not let in, too many requests, no answer at
    all. `words` are the far end's own."""
    text = words or f"status {answer.status}"
    if answer.status in (401, 403):
        return Refused(f"it does not let us in: {text}", status=answer.status)
    if answer.status in (408, 425, 429):
        return Unreachable(f"it asks us to wait: {text}")
    if 300 <= answer.status < 400:
        return Invalid(f"a redirect (status {answer.status}) instead of an answer")
    return None


def in_one_line(words: object) -> str:
    """What the far end says, for a message; empty where it says nothing."""
    return " ".join(words.split())[:MAX_WORDS] if isinstance(words, str) else ""


def _document(whole: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(whole)
    except ValueError:
        raise Invalid("an answer that is not JSON") from None
    if not isinstance(document, dict):
        raise Invalid("an answer that is not a JSON object")
    return document


def _reason(error: BaseException) -> str:
    """The first words along the chain of causes: httpx wraps trio's errors, which say nothing themselves."""
    link: BaseException | None = error
    while link is not None:
        if text := str(link).strip():
            return f"{type(error).__name__}: {text}"
        link = link.__cause__ or link.__context__
    return type(error).__name__
