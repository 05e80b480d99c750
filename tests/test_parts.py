"""What an installation gets wrong is told in a sentence, before anything runs."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from zlh.drivers.mail import Folder, Nowhere, Smtp
from zlh.model.accounts import Role
from zlh.model.errors import InvalidError
from zlh.parts import (
    check_address,
    create_user,
    open_mail,
    open_proxmox,
    open_reach,
    open_vault,
    portal_url,
    warn_of_any_address,
    warn_of_one_origin,
)
from zlh.settings import Settings, SettingsError, load_settings

PROXMOX = {"ZLH_PROXMOX_URL": "https://127.0.0.1:1"}
TOKEN = {"ZLH_PROXMOX_TOKEN_ID": "zlh@pve!control", "ZLH_PROXMOX_TOKEN_SECRET": "s3cr3t"}


def complaint(part: Callable[[Settings], Any], **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        part(load_settings(None, environ))
    assert "s3cr3t" not in str(caught.value)
    return str(caught.value)


def test_an_address_that_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"[server] nothing can listen on 127.0.0.1 port {port}" in complaint(
            check_address, ZLH_SERVER_PORT=port
        )
    check_address(load_settings(None, {"ZLH_SERVER_PORT": port}))


def test_the_check_of_the_address_is_not_seen_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects in that moment would take the API for running."""
    listened: list[int] = []
    monkeypatch.setattr(socket.socket, "listen", lambda sock, backlog: listened.append(backlog))
    check_address(load_settings(None, {"ZLH_SERVER_PORT": "0"}))
    assert listened == []


def test_proxmox_needs_an_address_and_somebody_to_sign_in_as() -> None:
    assert "[proxmox] url is not set" in complaint(open_proxmox)
    assert "neither token_id nor username" in complaint(open_proxmox, **PROXMOX)


@pytest.mark.parametrize("variable", ["ZLH_PROXMOX_CA_FILE", "ZLH_PROXMOX_PINNED_CERTIFICATE_FILE"])
@pytest.mark.parametrize("content", [None, b"no certificate", "ähnlich".encode()])
def test_certificates_that_are_none(tmp_path: Path, variable: str, content: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    said = complaint(open_proxmox, **PROXMOX, **TOKEN, **{variable: str(file)})
    assert f"no certificate can be read from {file}" in said


def test_mail_that_could_not_be_sent_or_followed() -> None:
    assert "[mail] sender: one e-mail address" in complaint(open_mail, ZLH_MAIL_MODE="folder", ZLH_MAIL_SENDER="x")
    assert "[server] portal_url is not set" in complaint(open_mail, ZLH_MAIL_MODE="smtp")


def test_how_messages_leave() -> None:
    def opened(**environ: str) -> object:
        return open_mail(load_settings(None, environ))

    assert isinstance(opened(), Nowhere)
    assert isinstance(opened(ZLH_MAIL_MODE="folder"), Folder)
    assert isinstance(opened(ZLH_MAIL_MODE="smtp", ZLH_SERVER_PORTAL_URL="https://portal.example"), Smtp)


def test_where_links_lead() -> None:
    def leads(**environ: str) -> str:
        return portal_url(load_settings(None, environ))

    both = {"ZLH_SERVER_PORTAL_URL": "https://portal.example", "ZLH_SERVER_PUBLIC_URL": "https://api.example"}
    assert leads(**both) == "https://portal.example"
    assert leads(ZLH_SERVER_PUBLIC_URL="https://api.example") == "https://api.example"
    assert leads(ZLH_SERVER_HOST="::1", ZLH_SERVER_PORT="9") == "http://[::1]:9"


def test_a_master_key_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    assert "does not exist" in complaint(open_vault, ZLH_SECRETS_KEY_FILE=str(file))
    file.write_text("s3cr3t, but no key")
    assert "does not hold a master key" in complaint(open_vault, ZLH_SECRETS_KEY_FILE=str(file))


@pytest.mark.parametrize(
    ("email", "username", "password"),
    [
        ("a b@example.com", "ada", "long enough"),
        ("a@example.com", "a@b", "long enough"),
        ("a@example.com", "ada", "x"),
    ],
)
async def test_an_account_made_by_hand_obeys_the_rules_of_a_registration(
    email: str, username: str, password: str
) -> None:
    with pytest.raises(InvalidError):
        await create_user(
            Settings(), email=email, username=username, password=password, role=Role.OPERATOR, plan=None
        )


@pytest.mark.parametrize(
    ("portal", "zone", "told"),
    [
        ("https://API.example:443/portal", "", True),
        ("https://portal.example", "", False),
        ("https://api.example", "ide.example", False),
        ("", "", False),
    ],
)
def test_ides_by_path_beside_the_portal(portal: str, zone: str, told: bool, caplog: pytest.LogCaptureFixture) -> None:
    given = {"ZLH_SERVER_PUBLIC_URL": "https://api.example", "ZLH_SERVER_PORTAL_URL": portal, "ZLH_IDE_ZONE": zone}
    warn_of_one_origin(load_settings(None, {name: value for name, value in given.items() if value}))
    assert ("share the origin https://api.example" in caplog.text) is told


@pytest.mark.parametrize(
    ("pool", "networks", "told"), [("", "", True), ("10.60.0.0/24", "", False), ("", "10.60.0.0/24", False)]
)
def test_containers_of_any_address(pool: str, networks: str, told: bool, caplog: pytest.LogCaptureFixture) -> None:
    given = {"ZLH_CONTAINERS_ADDRESS_POOL": pool, "ZLH_CONTAINERS_NETWORKS": networks}
    settings = load_settings(None, {name: value for name, value in given.items() if value})
    warn_of_any_address(settings)
    assert ("set [containers] networks" in caplog.text) is told
    reach = open_reach(settings)
    assert reach.problem("10.60.0.9", 8443) is None
    assert (reach.problem("192.168.7.7", 8443) is None) is told


def test_what_listens_everywhere_is_at_none_of_its_addresses_reached() -> None:
    given = {
        "ZLH_SERVER_HOST": "0.0.0.0",
        "ZLH_CONTAINERS_NETWORKS": "0.0.0.0/0",
        "ZLH_CONTAINERS_GATEWAY_ADDRESS": "10.0.0.1",
        "ZLH_CONTAINERS_NAMESERVER": "10.0.0.2",
        "ZLH_PROXMOX_URL": "https://10.0.0.4",
    }
    reach = open_reach(load_settings(None, given))
    own = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):
        # Nothing is sent by that: it tells from which of our addresses it would be, where there is a network at all.
        sock.connect(("192.0.2.77", 9))
        own.append(sock.getsockname()[0])
    for address in (*own, "127.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.4"):
        assert reach.problem(address, 8443) is not None
