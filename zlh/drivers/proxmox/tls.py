"""Which certificates of a Proxmox node are believed."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tls:
    """Neither field: the system's authorities. `ca_file`: the cluster's own authority (/etc/pve/pve-root-ca.pem).

    `pinned_certificate_pem`: exactly this node certificate and no other, whatever name or address it was reached by;
    its dates still count. With both fields the pin alone counts.
    """

    ca_file: Path | None = None
    pinned_certificate_pem: str | None = None

    def context(self) -> ssl.SSLContext:
        """Raises OSError for an unreadable file and ssl.SSLError or ValueError for a malformed certificate."""
        if self.pinned_certificate_pem is not None:
            return _pinned(self.pinned_certificate_pem)
        context = ssl.create_default_context(cafile=self.ca_file)
        # The authority that pvecm makes has no key identifier, which Python 3.13's strict check wants.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


def _pinned(pem: str) -> ssl.SSLContext:
    wanted = ssl.PEM_cert_to_DER_cert(pem.strip() + "\n")
    context = ssl.create_default_context(cadata=pem)
    context.check_hostname = False
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # The node's certificate is a leaf: let the chain end there instead of at an authority.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN

    class PinnedObject(ssl.SSLObject):
        # Trusting a certificate also trusts whatever it signed; comparing the bytes does not. Done inside the
        # handshake, so that a wrong peer never sees a request.
        def do_handshake(self) -> None:
            super().do_handshake()
            if self.getpeercert(binary_form=True) != wanted:
                raise ssl.SSLCertVerificationError("the node's certificate is not the pinned one")

    context.sslobject_class = PinnedObject
    return context
