"""Any DNS server that takes updates (RFC 2136) signed with TSIG (RFC 8945) and transfers its zone (RFC 5936)."""

from zlh.drivers.rfc2136.system import Rfc2136
from zlh.drivers.rfc2136.wire import Server, tsig_key

__all__ = ["Rfc2136", "Server", "tsig_key"]
