"""What httpx is given where it speaks plain HTTP on loopback: it makes a TLS context for every client, which takes
2 ms of a processor, and 20 with the authorities of the system; tests make thousands of clients.
"""

from __future__ import annotations

import ssl

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
