"""Names that other systems must accept."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

LABEL_LIMIT: Final = 63  # RFC 1035, section 2.3.4

CHOSEN_LENGTHS: Final = (3, 40)
"""Of a name that an owner chooses."""

_RESERVED: Final = """
    abuse account accounts admin admins administrator api app apps assets auth autoconfig autodiscover backup backups
    billing blog broadcasthost cdn cloud console control dashboard dev dns docs download downloads edge email ftp
    gateway git grafana health help host hosting hostmaster hub ide imap info internal intranet isatap lobby local
    localhost login mail mail1 mail2 metrics minecraft monitor monitoring mx1 mx2 node nodes noc ns1 ns2 ns3 ns4 ntp
    oauth official operator operators owner panel pay payment payments play pop pop3 portal postmaster private
    prometheus proxmox proxy public pve root router secure security server servers signin signup smtp ssh sso staff
    staging static statistics stats status store support sysadmin system traefik usenet velocity vpn webmail webmaster
    wpad www www1 www2 zlh
"""

RESERVED: Final = frozenset(_RESERVED.split())
"""Names that would pass for the house's own, or that machines look for (RFC 2142, RFC 6761, WPAD)."""

_CHOSEN: Final = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")


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


def chosen_name(wish: str) -> str:
    """The label that an owner chooses for a container, in lower case: one that no machine reads in another way, and
    that is no default name of any container, IDE or port. Raises ValueError that says why not."""
    shortest, longest = CHOSEN_LENGTHS
    if not shortest <= len(wish) <= longest:
        raise ValueError(f"{shortest} to {longest} characters are needed")
    # Before anything else: the lower case of some other letters is ASCII.
    if not _CHOSEN.fullmatch(wish):
        raise ValueError("letters from a to z, digits and single hyphens between them are allowed")
    label = wish.lower()
    if re.search(r"-[0-9]+$", label):
        raise ValueError("a hyphen and digits end the names that are given to everybody; choose another end")
    if re.match(r"(ide|p[0-9]+)-", label):
        raise ValueError("names of IDEs and ports begin like that; choose another beginning")
    return label
