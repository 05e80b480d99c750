"""The API as it is asked: who may, idempotency, the route, what is expanded, and errors in Stripe's words."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson

from zlh.simulators.agent.http import Request, Response
from zlh.simulators.far import Broken
from zlh.simulators.stripe import form, names
from zlh.simulators.stripe.errors import Document, Wrong, copied
from zlh.simulators.stripe.expansion import Expansion
from zlh.simulators.stripe.form import Wish
from zlh.simulators.stripe.idempotency import Idempotency
from zlh.simulators.stripe.routes import find
from zlh.simulators.stripe.version import VERSION

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

UNAUTHORIZED = (
    "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth "
    "(e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, or "
    "we can help at https://support.stripe.com/."
)
WORDS_500 = "An unknown error occurred"
WORDS_429 = "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits."


class Api:
    """`delay` is awaited when a request has its idempotency key and nothing has happened yet; `spend` is called
    before something is changed, and may raise Broken."""

    def __init__(
        self, account: Account, key: str, delay: Callable[[], Awaitable[None]], spend: Callable[[], None]
    ) -> None:
        self._account = account
        self._key = key
        self._delay = delay
        self._spend = spend
        self._expansion = Expansion(account)
        self.idempotency = Idempotency(account.clock.now)

    async def answer(self, request: Request) -> Response:
        number = names.make("request")
        body = (await request.body()).decode(errors="replace") if request.method == "POST" else ""
        try:
            self._admit(request)
            return await self._answer(request, number, body)
        except Wrong as wrong:
            return render(number, wrong.status, wrong.document(), retry=wrong.retry)

    def _admit(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given).decode().partition(":")[0]
            except ValueError:
                given = ""
        if not given:
            raise Wrong(401, UNAUTHORIZED)
        if given != self._key:
            shown = f"{given[:8]}{'*' * (len(given) - 12)}{given[-4:]}" if len(given) > 12 else "*" * len(given)
            raise Wrong(401, f"Invalid API Key provided: {shown}")

    async def _answer(self, request: Request, number: str, body: str) -> Response:
        values = form.decode("&".join(part for part in (request.query_string, body) if part))
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        if key is None:
            await self._delay()
            status, document = self._execute(request, number, values, None)
            return render(number, status, document)
        before = self.idempotency.begin(key, request.path, values, number)
        if before is not None:
            assert before.status is not None
            assert before.body is not None
            extra = (("Idempotency-Key", key), ("Idempotent-Replayed", "true"), ("Original-Request", before.request))
            return render(number, before.status, before.body, extra=extra)
        kept = False
        try:
            await self._delay()
            status, document = self._execute(request, number, values, key)
            self.idempotency.keep(key, status, document)
            kept = True
        finally:
            if not kept:
                self.idempotency.forget(key)
        return render(number, status, document, extra=(("Idempotency-Key", key), ("Original-Request", number)))

    def _execute(
        self, request: Request, number: str, values: dict[str, Any], key: str | None
    ) -> tuple[int, Document]:
        """Errors of what was executed are answers like others; raises Wrong for the rest."""
        self._account.catch_up()
        self._account.events.cause = {"id": number, "idempotency_key": key}
        try:
            route, parts = find(request.method, request.path)
            wish = Wish(values)
            wanted = wish.texts("expand")
            if request.method != "GET":
                self._spend()
            document = route(self._account, wish, *parts)
            wish.finish()
            # As it is now: the object may change while the answer is kept.
            return 200, copied(self._expansion.of(document, wanted))
        except Broken:
            return 500, {"error": {"message": WORDS_500, "type": "api_error"}}
        except Wrong as wrong:
            if not wrong.executed:
                raise
            return wrong.status, copied(wrong.document())
        finally:
            self._account.events.cause = {"id": None, "idempotency_key": None}


def render(
    number: str,
    status: int,
    document: Document,
    *,
    retry: bool | None = None,
    extra: tuple[tuple[str, str], ...] = (),
) -> Response:
    if status >= 400:
        document = {"error": {**document["error"], "request_log_url": f"https://dashboard.stripe.com/logs/{number}"}}
        retry = bool(retry)
    headers = [("Request-Id", number), ("Stripe-Version", VERSION), *extra]
    if retry is not None:
        headers.append(("Stripe-Should-Retry", "true" if retry else "false"))
    return Response(status, orjson.dumps(document), "application/json", tuple(headers))
