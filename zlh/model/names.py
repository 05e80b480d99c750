"""Names that other systems must accept."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

LABEL_LIMIT: Final = 63  # RFC 1035, section 2.3.4


def comparison_key(name: str) -> str:
    """What two spellings of one e-mail address or user name have in common: NFKC, case folded, trimmed."""
    # Folding can undo the normal form (and the other way round): the second pass makes the key a fixed point.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


def hostname(name: str, vmid: int, zone: str = "") -> str:
    """A DNS name for a container, in `zone` where one is given: "My Sërver!" and 5001 give "my-server-5001".

    One label of lower-case letters, digits and single hyphens (so never an "xn--" one), at most 63 bytes. Two vmids
    never share one: the digits after the last hyphen are the vmid. A name of which nothing can be kept gives "ct".
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    room = LABEL_LIMIT - len(f"-{vmid}")
    label = f"{slug[:room].rstrip('-') or 'ct'}-{vmid}"
    return f"{label}.{zone}" if zone else label
