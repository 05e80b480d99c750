"""Which vmid and which address a new container gets. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network

from zlh.model.errors import UnavailableError

AddressPool = Sequence[str] | IPv4Network | IPv6Network


def next_vmid(vmids: range, last: int | None, taken: Collection[int]) -> int:
    """The next free one after `last`, from the start again after the end, so that a freed one rests for a round.

    Raises UnavailableError "no_vmid_left".
    """
    start = 0 if last is None or last not in vmids else vmids.index(last) + 1
    for offset in range(len(vmids)):
        vmid = vmids[(start + offset) % len(vmids)]
        if vmid not in taken:
            return vmid
    raise UnavailableError("every container number is in use", code="no_vmid_left", retry_after=60)


def next_address(pool: AddressPool, taken: Collection[str]) -> str:
    """The first free address of the pool, of a network without its own and its broadcast address.

    Raises UnavailableError "no_address_left".
    """
    addresses: Iterable[object] = pool.hosts() if isinstance(pool, IPv4Network | IPv6Network) else pool
    for address in addresses:
        if str(address) not in taken:
            return str(address)
    raise UnavailableError("every address of the pool is in use", code="no_address_left", retry_after=60)
