"""Where customers' own programs are found: the IDE of a dev container, and the ports of it that were opened.

    host mode   https://ide-6001.ide.example/...        the IDE
                https://p3000-6001.ide.example/...      a forwarded port
    path mode   https://api.example/ide/6001/...        the IDE, where no zone was set aside for host names

In path mode all IDEs are of one origin with the API: good enough for an installation whose customers trust each
other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

_HOST = re.compile(rb"(?:ide|p([1-9][0-9]{0,4}))-([1-9][0-9]{0,8})\.([A-Za-z0-9.\-]+)(?::[0-9]{1,5})?", re.IGNORECASE)
_PATH = re.compile(rb"/ide/([1-9][0-9]{0,8})(?=/|$)")
LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Place:
    """The IDE of a container, or (`port`) one of its forwarded ports. `prefix` is what stands before every path of
    it, "/ide/6001" in path mode, empty in host mode."""

    vmid: int
    port: int | None = None
    prefix: bytes = b""

    def inside(self, target: bytes) -> bytes:
        """The target as the program in the container knows it; empty where only the prefix was named."""
        return target[len(self.prefix) :]


class Names:
    """`zone` is the suffix of host names, empty for path mode."""

    def __init__(self, zone: str) -> None:
        self._zone = zone.lower().encode()
        self._places = lru_cache(maxsize=4096)(self._find)

    @property
    def by_host(self) -> bool:
        return bool(self._zone)

    def place(self, host: bytes, path: bytes) -> Place | None:
        """What a request is for; None where it is for neither. Asked of every request, so most are done at a
        glance."""
        if not self._zone:
            match = _PATH.match(path) if path.startswith(b"/ide/") else None
            return Place(int(match[1]), prefix=match[0]) if match else None
        return self._places(host)

    def _find(self, host: bytes) -> Place | None:
        if self._zone not in host.lower():
            return None
        match = _HOST.fullmatch(host)
        if match is None or match[3].lower() != self._zone:
            return None
        port = int(match[1]) if match[1] else None
        return None if port is not None and port > LAST_PORT else Place(int(match[2]), port)

    def url(self, public_url: str, vmid: int, port: int | None = None) -> str | None:
        """Where browsers find it, with its closing slash, given how they reach the API; None for a port where there
        are no host names."""
        if not self._zone:
            return None if port is not None else f"{public_url}/ide/{vmid}/"
        parts = urlsplit(public_url)
        name = "ide" if port is None else f"p{port}"
        end = f":{parts.port}" if parts.port is not None else ""
        return f"{parts.scheme}://{name}-{vmid}.{self._zone.decode()}{end}/"
