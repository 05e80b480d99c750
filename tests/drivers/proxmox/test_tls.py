"""Which certificates are believed, on a real TLS listener."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fakepve.certs import make_cert

from tests.proxmox import token
from zlh.drivers.errors import Unreachable
from zlh.drivers.proxmox import ProxmoxDriver, Tls
from zlh.simulators.proxmox.client import Cluster


async def version(cluster: Cluster, tls: Tls, url: str | None = None) -> str:
    driver = ProxmoxDriver(url or cluster.url, token(cluster), tls)
    try:
        return await driver.version()
    finally:
        await driver.aclose()


def pem_of(path: Path) -> str:
    return path.read_text()


async def test_an_authority_file(proxmox: Cluster) -> None:
    assert await version(proxmox, Tls(ca_file=proxmox.certificate))


async def test_an_unknown_authority_is_not_believed(proxmox: Cluster) -> None:
    before = await proxmox.requests()
    with pytest.raises(Unreachable, match="certificate verify failed"):
        await version(proxmox, Tls())
    assert await proxmox.requests() == before


async def test_the_pinned_certificate_and_no_other(proxmox: Cluster, tmp_path: Path) -> None:
    assert await version(proxmox, Tls(pinned_certificate_pem=pem_of(proxmox.certificate)))
    other = Path(make_cert(str(tmp_path), hosts=("127.0.0.3",))[0])
    before = await proxmox.requests()
    with pytest.raises(Unreachable, match="certificate"):
        await version(proxmox, Tls(pinned_certificate_pem=pem_of(other)))
    with pytest.raises(Unreachable, match="certificate"):
        await version(proxmox, Tls(ca_file=other))
    assert await proxmox.requests() == before


@dataclass(frozen=True)
class NodeCertificate:
    """A certificate as `pvecm` makes them: an authority without key identifiers signs the node's certificate."""

    authority: Path
    node: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> NodeCertificate:
        authority_key, node_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        authority = certificate(
            "Proxmox Virtual Environment", authority_key, "Proxmox Virtual Environment", authority_key
        )
        node = certificate("pve1.example.com", node_key, "Proxmox Virtual Environment", authority_key)
        made = cls(folder / "pve-root-ca.pem", folder / "pve-ssl.pem", folder / "pve-ssl.key")
        made.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        made.node.write_bytes(node.public_bytes(serialization.Encoding.PEM))
        made.key.write_bytes(
            node_key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return made


def certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


@asynccontextmanager
async def serving(made: NodeCertificate) -> AsyncIterator[str]:
    """A TLS server with the node's certificate, that answers one question."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.node, made.key)

    async def connection(stream: trio.SSLStream[trio.SocketStream]) -> None:
        body = b'{"data":{"version":"8.4.1"}}'
        try:
            await stream.receive_some(65536)
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_ssl_over_tcp, connection, 0, context, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        yield f"https://127.0.0.1:{listener.transport_listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def test_the_authority_that_proxmox_makes(proxmox: Cluster, tmp_path: Path) -> None:
    made = NodeCertificate.make(tmp_path)
    async with serving(made) as url:
        assert await version(proxmox, Tls(ca_file=made.authority), url) == "8.4.1"
        assert await version(proxmox, Tls(pinned_certificate_pem=pem_of(made.node)), url) == "8.4.1"
        with pytest.raises(Unreachable, match="certificate verify failed"):
            await version(proxmox, Tls(), url)


async def test_a_pin_holds_whatever_the_name(proxmox: Cluster, tmp_path: Path) -> None:
    made = NodeCertificate.make(tmp_path)
    async with serving(made) as url:
        url = url.replace("127.0.0.1", "localhost")
        with pytest.raises(Unreachable, match="certificate verify failed"):
            await version(proxmox, Tls(ca_file=made.authority), url)
        assert await version(proxmox, Tls(pinned_certificate_pem=pem_of(made.node)), url) == "8.4.1"


async def test_a_pin_does_not_believe_what_it_signed(proxmox: Cluster, tmp_path: Path) -> None:
    made = NodeCertificate.make(tmp_path)
    async with serving(made) as url:
        with pytest.raises(Unreachable, match="not the pinned one"):
            await version(proxmox, Tls(pinned_certificate_pem=pem_of(made.authority)), url)


def test_addresses_that_would_show_the_token() -> None:
    for url in ("http://pve1.example.com:8006", "http://192.0.2.1:8006", "pve1:8006", "ftp://127.0.0.1", ""):
        with pytest.raises(ValueError):
            ProxmoxDriver(url, token(Cluster("", "", Path(), 0)))
