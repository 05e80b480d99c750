"""An endpoint for webhooks, which checks every signature with the library's own means."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from stripe import SignatureVerificationError, Webhook, WebhookSignature

from zlh.simulators.agent.http import Request, Response, json_response, listen, serve

SECRET, OLD_SECRET = "whsec_new", "whsec_old"


class Hook:
    """`got` are the events that came and were signed; `forged` counts the others. `status` is what is answered, where
    `answers` has nothing left. `asked` is set by the first request."""

    def __init__(self, url: str, secret: str) -> None:
        self.url = url
        self.secret = secret
        self.status = 200
        self.got: list[Any] = []
        self.headers: list[str] = []
        self.forged = 0
        self.answers: list[int] = []
        self.asked = trio.Event()
        self._arrived = trio.Event()

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.got]

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.got]

    async def until(self, count: int) -> None:
        """So many events have come."""
        with trio.fail_after(10):
            while len(self.got) < count:
                await self._arrived.wait()

    async def answer(self, request: Request) -> Response:
        self.asked.set()
        body, header = await request.body(), request.headers["stripe-signature"]
        try:
            WebhookSignature.verify_header(body, header, self.secret, 300)
        except SignatureVerificationError:
            self.forged += 1
            return json_response({}, 400)
        status = self.answers.pop(0) if self.answers else self.status
        if status == 200:
            self.got.append(Webhook.construct_event(body, header, self.secret))
            self.headers.append(header)
        arrived, self._arrived = self._arrived, trio.Event()
        arrived.set()
        return json_response({}, status)


@asynccontextmanager
async def open_hook(secret: str = SECRET) -> AsyncIterator[Hook]:
    async with trio.open_nursery() as nursery:
        listener = listen("127.0.0.1", 0)
        hook = Hook(f"http://127.0.0.1:{listener.getsockname()[1]}/hook", secret)
        nursery.start_soon(serve, listener, hook.answer)
        yield hook
        nursery.cancel_scope.cancel()
