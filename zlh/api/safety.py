"""The fields that make browsers careful, on everything that the application answers."""

from __future__ import annotations

from typing import Any

from zlh.api.origins import Application, Receive, Send
from zlh.wire.http import Fields

ANSWERS = frozenset({"http.response.start", "websocket.http.response.start"})
NO_STORE = (b"cache-control", b"no-store")


class Safety:
    """An ASGI application around another. What an answer says itself stays as it is; nothing may be kept by caches
    that does not say so."""

    def __init__(self, inner: Application, fields: Fields) -> None:
        self._inner = inner
        self._fields = [NO_STORE, *fields]

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        async def send_safely(event: Any) -> None:
            if event["type"] in ANSWERS:
                said = {name.lower() for name, _ in event["headers"]}
                missing = [field for field in self._fields if field[0] not in said]
                event = {**event, "headers": [*event["headers"], *missing]}
            await send(event)

        await self._inner(scope, receive, send_safely)
