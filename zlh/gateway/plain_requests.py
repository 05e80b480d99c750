"""Requests that need no thought: a GET to a program in a container, by one who came that way a moment ago.

Browsers repeat the fields of their requests byte by byte. What such a block of fields comes to is found out once, by
the same functions as for every other request, and kept: the fields for the program, and whose pass came with them.
What may change at any moment (who may come, whether the container can be reached) is not kept here.
"""

from __future__ import annotations

import re

from zlh.gateway.client import Client
from zlh.gateway.forwarded import TrustedProxies
from zlh.gateway.ide_fields import refuse_foreign, upstream_fields
from zlh.gateway.refusals import Refusal
from zlh.gateway.upstream import TcpDestination
from zlh.ide import House, Regular, Regulars, pass_name, take_pass
from zlh.ide.pages import START_PATH
from zlh.wire.http import HEAD_END, HeadError, build_fields, parse_request

REMEMBERED = 512
LONGEST_LINE = 4096
LONGEST_BLOCK = 8192

# As zlh.wire.http has it, and never two slashes where the program's own path begins.
_BY_HOST = re.compile(rb"GET ()(/(?!/)[\x21\x22\x24-\x7e]*) HTTP/1\.1")
_BY_PATH = re.compile(rb"GET (/ide/[1-9][0-9]{0,8})(/(?!/)[\x21\x22\x24-\x7e]*) HTTP/1\.1")


class Known:
    """One block of fields at one place. `rest` is what stands behind the target of the request that the program gets,
    up to the value of its X-Request-Id."""

    __slots__ = ("_address", "_destination", "regular", "rest")

    def __init__(self, regular: Regular, rest: bytes) -> None:
        self.regular = regular
        self.rest = rest
        self._address: tuple[str, int] | None = None
        self._destination: TcpDestination | None = None

    def destination(self) -> TcpDestination | None:
        """Where it goes, where it may go there at this moment. Raises UnavailableError."""
        address = self.regular.admit()
        if address is not self._address:
            self._address = address
            self._destination = TcpDestination(*address, group=self.regular.place.vmid) if address else None
        return self._destination


class PlainRequests:
    """`read` is asked of every request on the fast lane."""

    def __init__(self, house: House, proxies: TrustedProxies) -> None:
        self.regulars = Regulars(house)
        self._house = house
        self._proxies = proxies
        self._line = _BY_HOST if house.names.by_host else _BY_PATH
        self._known: dict[tuple[str, bytes, bytes], Known] = {}

    def read(self, client: Client, data: bytes) -> tuple[bytes, Known] | None:
        """The target as the program knows it, and what the fields come to; None for everything that is not plain,
        which is not to say that it is wrong."""
        end = data.find(b"\r\n", 0, LONGEST_LINE)
        if end < 0 or not data.endswith(HEAD_END):
            return None
        match = self._line.fullmatch(data, 0, end)
        if match is None:
            return None
        prefix, inside = match.groups()
        if b"token=" in inside or inside.startswith(START_PATH):
            return None
        block = data[end:]
        key = (client.address, prefix, block)
        known = self._known.get(key)
        if known is None or known.regular.gone:
            known = self._learn(client, prefix, block)
            if known is None:
                return None
            self._known.pop(key, None)
            self._known[key] = known
            if len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
        return inside, known

    def _learn(self, client: Client, prefix: bytes, block: bytes) -> Known | None:
        if len(block) > LONGEST_BLOCK or block.find(HEAD_END) != len(block) - len(HEAD_END):
            return None
        try:
            head = parse_request(b"GET %b/ HTTP/1.1%b" % (prefix, block.removesuffix(HEAD_END)))
        except HeadError:
            return None
        plain = not head.upgrade and head.length == 0 and not head.expects_continue and head.keeps_alive
        if not plain or head.get(b"x-request-id") is not None:
            return None
        place = self._house.names.place(head.host, head.path)
        if place is None:
            return None
        offered, fields = take_pass(head.fields, pass_name(place, secure=self._house.secure))
        regular = self.regulars.find(place, offered)
        if regular is None:
            return None
        try:
            if regular.principal is not None:
                refuse_foreign(head, secure=self._house.secure)
        except Refusal:
            return None
        fields = upstream_fields(self._house, place, client, head, fields, self._proxies)
        return Known(regular, b" HTTP/1.1\r\n%bx-request-id: " % build_fields(fields))
