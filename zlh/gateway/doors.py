"""Doors: addresses that the gateway serves itself, each noun by a door of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from zlh.gateway.client import Client
from zlh.gateway.forwarded import TrustedProxies
from zlh.gateway.limits import Limits
from zlh.gateway.refusals import Refusal
from zlh.gateway.relay import Relay
from zlh.gateway.stats import Counters
from zlh.gateway.watch import Watch
from zlh.wire.http import RequestHead


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request at a door. `address` is the client's, from the socket or from a trusted proxy."""

    client: Client
    head: RequestHead
    request_id: bytes
    address: str


class Door(Protocol):
    def wants(self, head: RequestHead) -> bool:
        """Whether the request is for this door; asked of every request, so it must be quick."""

    async def enter(self, arrival: Arrival) -> bool:
        """Serves it; whether the client's connection can be used again.

        Raises Refusal while nothing was answered yet, then CutError; GoneError and Interrupted about the client.
        """


@dataclass(frozen=True, slots=True)
class Tools:
    """What all doors share. `safety` are the built fields that every answer of the gateway's own carries."""

    relay: Relay
    watch: Watch
    counters: Counters
    limits: Limits
    proxies: TrustedProxies
    safety: bytes
    origin_allowed: Callable[[str], bool]

    def check_origin(self, head: RequestHead) -> None:
        """Browsers let any page open a websocket to anywhere and only say where the page is from. Raises Refusal."""
        origin = head.get(b"origin")
        if origin is not None and not self.origin_allowed(origin.decode("latin1")):
            raise Refusal(403, "this origin may not open websockets here", code="forbidden_origin")
