"""Asks one name server whether a name leads anywhere."""

from __future__ import annotations

import dns.asyncresolver
import dns.exception
import dns.resolver

SECONDS = 3.0


class NameServer:
    """`address` is an IP address."""

    def __init__(self, address: str, port: int = 53) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        self._resolver.nameservers = [address]
        self._resolver.port = port
        self._resolver.lifetime = SECONDS

    async def resolves(self, name: str) -> str | None:
        """None where the name has an address, otherwise why nobody knows one."""
        problem = "it has no address"
        for kind in ("A", "AAAA"):
            try:
                await self._resolver.resolve(name, kind, search=False)
                return None
            except dns.resolver.NXDOMAIN:
                return "there is no such name"
            except dns.resolver.NoAnswer:
                continue
            except (dns.exception.DNSException, OSError) as error:
                problem = f"the name server does not answer: {type(error).__name__}"
        return problem
