"""Which fields go to a customer's program and come back from it, and which requests of a browser are its own
doing."""

from __future__ import annotations

import re

from zlh.gateway.client import Client
from zlh.gateway.forwarded import SPOOFABLE, TrustedProxies, forwarded_fields
from zlh.gateway.refusals import Refusal
from zlh.ide import House, Place, confine
from zlh.wire.http import Fields, RequestHead, end_to_end

_NOT_FORWARDED = SPOOFABLE | {b"content-length", b"expect"}
_CREDENTIALS = frozenset((b"authorization",))
SAFE = (b"GET", b"HEAD", b"OPTIONS")

# What speaks for more than one host, or sends browsers elsewhere: no program in a container may say that. Nor what
# web servers in front of us would take for an order, to send a file of theirs or to ask somebody else.
_NEVER = frozenset(
    (
        b"alt-svc",
        b"clear-site-data",
        b"public-key-pins",
        b"set-cookie2",
        b"x-lighttpd-send-file",
        b"x-lighttpd-send-tempfile",
        b"x-reproxy-file",
        b"x-reproxy-url",
        b"x-sendfile",
        b"x-sendfile2",
    )
)
_TO_NGINX = b"x-accel-"
# What speaks for a whole origin, which in path mode is the API's.
_OF_THE_ORIGIN = frozenset(
    (
        b"expect-ct",
        b"nel",
        b"origin-agent-cluster",
        b"report-to",
        b"reporting-endpoints",
        b"strict-transport-security",
    )
)
_ABSOLUTE = re.compile(rb"(https?)://([^/?#\\]*)(.*)", re.IGNORECASE | re.DOTALL)


def own_origin(head: RequestHead, *, secure: bool) -> bytes:
    """The origin of the pages of the host that this request is for."""
    return b"%b://%b" % (b"https" if secure else b"http", head.host.lower())


def refuse_foreign(head: RequestHead, *, secure: bool) -> None:
    """Cookies come along whoever made the browser ask: only the place's own pages may, and links to it. Raises
    Refusal 403. Programs that are no browsers say nothing of where they are."""
    origin = head.get(b"origin")
    if origin is not None and origin.lower() != own_origin(head, secure=secure):
        raise Refusal(403, "pages of other origins may not ask here", code="forbidden_origin")
    site = head.get(b"sec-fetch-site")
    if site in (None, b"same-origin", b"none"):
        return
    by_link = head.get(b"sec-fetch-mode") == b"navigate" and head.get(b"sec-fetch-dest") == b"document"
    if not (by_link and head.method in SAFE and not head.upgrade):
        raise Refusal(403, "pages of other sites may not ask here", code="forbidden_origin")


def upstream_fields(
    house: House, place: Place, client: Client, head: RequestHead, fields: Fields, proxies: TrustedProxies
) -> Fields:
    """What the program gets, but for X-Request-Id and what frames a body; `fields` are the request's without our
    cookies."""
    forwarded = [
        (name, b"https" if name == b"x-forwarded-proto" and house.secure else value)
        for name, value in forwarded_fields(head, client.address, client.trusted, proxies)
    ]
    if place.prefix:
        # What was taken off the path: programs that name themselves by absolute paths need to know.
        forwarded.append((b"x-forwarded-prefix", place.prefix))
    drop = _NOT_FORWARDED if _keeps_authorization(house, place, head) else _NOT_FORWARDED | _CREDENTIALS
    return end_to_end(fields, head.connection, drop) + forwarded


def _keeps_authorization(house: House, place: Place, head: RequestHead) -> bool:
    """The IDE has no use for one; a program at a port may have sign-ins of its own, but ours are not its business."""
    authorization = (head.get(b"authorization") or b"").decode("latin1")
    return place.port is not None and not house.gatekeeper.is_ours(authorization)


def answer_fields(fields: Fields, place: Place, own_hosts: tuple[bytes, ...]) -> Fields:
    """What the browser gets of an answer: cookies and redirects stay at the place, and nothing is said for others.
    `own_hosts` are the names under which the program may know itself."""
    kept: Fields = []
    for name, value in fields:
        if name in _NEVER or name.startswith(_TO_NGINX) or (place.prefix and name in _OF_THE_ORIGIN):
            continue
        if name == b"set-cookie":
            confined = confine(value, place)
            if confined is not None:
                kept.append((name, confined))
        elif name in (b"location", b"content-location"):
            kept.append((name, _at_place(value, place, own_hosts)))
        elif name == b"service-worker-allowed" and place.prefix:
            kept.append((name, place.prefix + b"/"))
        else:
            kept.append((name, value))
    return kept


def _at_place(location: bytes, place: Place, own_hosts: tuple[bytes, ...]) -> bytes:
    """Where a redirect leads from the browser's point of view. What names another host or is relative stays."""
    absolute = _ABSOLUTE.fullmatch(location)
    if absolute is not None:
        if absolute[2].lower() not in own_hosts:
            return location
        location = absolute[3]
        if not location.startswith(b"/"):
            location = b"/" + location
        # Two slashes would name a host.
        location = b"/" + location.lstrip(b"/\\") if location[1:2] in (b"/", b"\\") else location
    if not place.prefix or not location.startswith(b"/") or location[1:2] in (b"/", b"\\"):
        return location
    if location == place.prefix or location.startswith(place.prefix + b"/"):
        return location
    return place.prefix + location
