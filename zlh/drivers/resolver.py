"""Asks one name server where a name leads."""

from __future__ import annotations

import dns.asyncresolver
import dns.exception
import dns.resolver

from zlh.drivers.dns_records import address
from zlh.drivers.errors import NotFound, Unreachable

SECONDS = 3.0


class NameServer:
    """`host` is an IP address."""

    def __init__(self, host: str, port: int = 53) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        self._resolver.nameservers = [host]
        self._resolver.port = port
        self._resolver.lifetime = SECONDS

    async def addresses(self, name: str) -> set[str]:
        """Of both families. Raises NotFound where it knows none, Unreachable where nobody can say."""
        found: set[str] = set()
        silent: Unreachable | None = None
        for kind in ("A", "AAAA"):
            try:
                found |= await self._ask(name, kind)
            except NotFound:
                continue
            except Unreachable as error:
                silent = error
        if found:
            return found
        raise silent or NotFound(f"there is no address of {name}")

    async def _ask(self, name: str, kind: str) -> set[str]:
        try:
            answer = await self._resolver.resolve(name, kind, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            raise NotFound(f"there is no {kind} of {name}") from None
        except (dns.exception.DNSException, OSError) as error:
            raise Unreachable(f"the name server does not answer: {type(error).__name__}") from error
        return {address(rdata.to_text()) for rdata in answer}
