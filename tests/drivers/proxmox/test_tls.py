"""Which certificates are believed, on a real TLS listener."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakepve.certs import make_cert

from tests.proxmox import token
from zlh.drivers.errors import Unreachable
from zlh.drivers.proxmox import ProxmoxDriver, Tls
from zlh.simulators.proxmox.client import Cluster, running


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


async def test_a_pin_holds_whatever_the_name(proxmox: Cluster, tmp_path: Path) -> None:
    # Listens on every loopback address, with a certificate for one of them.
    async with running(tmp_path / "state.json", host="127.0.0.4") as cluster:
        pem = pem_of(cluster.certificate)
        assert await version(cluster, Tls(pinned_certificate_pem=pem))


def test_addresses_that_would_show_the_token() -> None:
    for url in ("http://pve1.example.com:8006", "http://192.0.2.1:8006", "pve1:8006", "ftp://127.0.0.1", ""):
        with pytest.raises(ValueError):
            ProxmoxDriver(url, token(Cluster("", "", Path(), 0)))
