"""Reads that are answered right here, from memory: neither Hypercorn nor Quart hears of them."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from typing import Protocol

import trio

from zlh.gateway.client import Client
from zlh.gateway.forwarded import TrustedProxies, client_address
from zlh.wire.http import Fields, RequestHead, build_response


class Reads(Protocol):
    def __call__(
        self, target: bytes, authorization: bytes, origin: bytes | None, address: str
    ) -> tuple[Fields, bytes] | None:
        """Fields (without those of framing, safety and the request's id) and body of a 200, or None: the control
        plane is to be asked. `address` is the client's. Waits for nothing and raises nothing."""


async def answer_from_memory(
    reads: Reads, client: Client, head: RequestHead, request_id: bytes, proxies: TrustedProxies, safety: bytes
) -> bool | None:
    """Whether the client's connection can be used again; None where nothing was answered. `safety` is what
    `build_fields` made of the fields that every answer carries. Raises as `Client.send`."""
    authorization = head.get(b"authorization")
    if head.method != b"GET" or head.length != 0 or head.upgrade or authorization is None:
        return None
    address = client_address(head, client.address, client.trusted, proxies)
    found = reads(head.target, authorization, head.get(b"origin"), address)
    if found is None:
        return None
    fields, body = found
    keep = not client.last and head.keeps_alive
    framing = [
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id),
        (b"date", _date(int(time.time()))),
    ]
    if not keep:
        framing.append((b"connection", b"close"))
    elif not head.minor:
        framing.append((b"connection", b"keep-alive"))
    if client.buffer:
        # The next request is here already, so that nothing would have to wait: others must have their turn.
        await trio.lowlevel.checkpoint()
    await client.send(build_response(200, [*fields, *framing], prebuilt=safety) + body)
    return keep


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    """As RFC 9110 writes it; built once a second."""
    return formatdate(second, usegmt=True).encode()
