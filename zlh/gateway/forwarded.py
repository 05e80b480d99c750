"""Who the client is: told to the upstream once, from the socket or from a proxy that is trusted to know."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from zlh.wire.http import Fields, RequestHead

# What a client might send to be taken for somebody else; none of it goes on.
SPOOFABLE = frozenset(
    (
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-server",
        b"x-real-ip",
        b"x-request-id",
    )
)


class TrustedProxies:
    """Addresses and networks ("10.0.0.0/8", "::1") whose X-Forwarded fields are believed. Raises ValueError."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(each, strict=False) for each in networks]

    def __contains__(self, address: str) -> bool:
        if not self._networks:
            return False
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def client_of(self, peer: str, chain: Iterable[bytes]) -> str:
        """The client's address: the last one of X-Forwarded-For that is not a trusted proxy itself."""
        client = peer
        for value in reversed(b",".join(chain).split(b",")):
            candidate = value.strip().decode("latin1")
            try:
                client = str(ip_address(candidate))
            except ValueError:
                break
            if client not in self:
                break
        return client


def client_address(head: RequestHead, peer: str, trusted: bool, proxies: TrustedProxies) -> str:
    """Who asks: the peer, or whom it speaks for where it is `trusted`."""
    if not trusted:
        return peer
    return proxies.client_of(peer, [value for name, value in head.fields if name == b"x-forwarded-for"])


def forwarded_fields(head: RequestHead, peer: str, trusted: bool, proxies: TrustedProxies) -> Fields:
    """X-Forwarded-For, -Proto and -Host, one value each."""
    client, proto, host = client_address(head, peer, trusted, proxies), b"http", head.host
    if trusted:
        if (head.get(b"x-forwarded-proto") or b"").lower() in (b"https", b"wss"):
            proto = b"https"
        host = head.get(b"x-forwarded-host") or host
    return [
        (b"x-forwarded-for", client.encode()),
        (b"x-forwarded-proto", proto),
        (b"x-forwarded-host", host),
    ]
