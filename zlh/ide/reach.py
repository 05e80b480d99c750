"""What may be reached behind the proxy: a container at its own address, and nothing else, whatever its row says."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Container, Iterable
from functools import lru_cache

from zlh.ide.places import LAST_PORT


class Reach:
    """`pool` are the addresses that containers can have; empty where they get theirs from DHCP, and then an address
    has to be in one of `networks`, or, where there are none either, only one of a machine in a network. `own` are
    ours, which no container has (names are passed over), and so are those of this `machine`; `agent_port` is never
    reached."""

    def __init__(
        self,
        pool: Collection[str],
        own: Iterable[str],
        agent_port: int,
        *,
        networks: Iterable[str] = (),
        machine: Container[object] = (),
    ) -> None:
        self._pool = frozenset(pool)
        self._networks = tuple(ipaddress.ip_network(network, strict=False) for network in networks)
        self._own = {address for text in own if (address := _literal(text)) is not None}
        self._machine = machine
        self._agent_port = agent_port

    def problem(self, address: str | None, port: int, *, met: bool = True) -> str | None:
        """Why nothing is sent there; None where it may be. `met`: the container's agent was found at the address.
        Without a pool, whoever has root in a container says what its address is, and that has to be seen."""
        found = _literal(address) if address is not None else None
        if found is None or str(found) != address:
            return "the container's address is not one"
        if found in self._own or found in self._machine:
            return "the container's address is ours"
        if self._pool:
            if address not in self._pool:
                return "the container's address is not among those of containers"
        elif self._networks and not any(found in network for network in self._networks):
            return "the container's address is not in a network of containers"
        elif not _of_a_machine(found):
            return "the container's address is not one of a machine in a network"
        if not self._pool and not met:
            return "the container's agent does not answer at its address"
        if port == self._agent_port:
            return "the agent's port is not for customers"
        if not 1 <= port <= LAST_PORT:
            return "that is not a port"
        return None


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=4096)
def _literal(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _of_a_machine(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped is not None or address.scope_id):
        return False
    return not (
        address.is_loopback
        or address.is_unspecified
        or address.is_multicast
        or address.is_link_local
        or address.is_reserved
    )
