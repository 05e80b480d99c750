"""The edge that settings make."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from zlh.containers import Fleet
from zlh.edge import Outlets
from zlh.edge.documents import Documents
from zlh.edge_parts import open_edge
from zlh.settings import SettingsError, load_games, load_settings
from zlh.store import Database

CONFIG = Path(__file__).parents[2] / "config"
SECRET = "emxoLXNlY3JldC1mb3ItdGVzdHMtb25seQ=="
EVERYTHING = {
    "ZLH_TECHNITIUM_URL": "http://127.0.0.1:5380",
    "ZLH_TECHNITIUM_TOKEN": "token",
    "ZLH_CLOUDFLARE_TOKEN": "token",
    "ZLH_CLOUDFLARE_URL": "http://127.0.0.1:5381",
    "ZLH_RFC2136_SERVER": "127.0.0.1:5353",
    "ZLH_RFC2136_KEY_NAME": "zlh",
    "ZLH_RFC2136_KEY_SECRET": SECRET,
    "ZLH_VELOCITY_URL": "http://127.0.0.1:8081",
    "ZLH_VELOCITY_SECRET": "secret",
    "ZLH_TRAEFIK_TOKEN": "token",
    "ZLH_PROMETHEUS_TOKEN": "another",
    "ZLH_EDGE_RESOLVER": "[::1]:5353",
}


class Nobody:
    """A fleet, a database, forwarded ports that are not asked for anything."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def set_reachability(self, *_: object) -> None:
        raise AssertionError


async def opened(**environment: str) -> tuple[Outlets, Documents]:
    settings = load_settings(CONFIG / "zlh.toml", environment)
    nobody = Nobody()
    async with AsyncExitStack() as stack:
        return open_edge(
            settings,
            stack,
            cast(Database, nobody),
            cast(Fleet, nobody),
            load_games(CONFIG / "games.toml"),
            cast(Any, nobody),
            lambda _act, _ending: None,
        )


async def test_without_settings_nothing_is_published() -> None:
    edge, documents = await opened()
    assert edge.names == []
    assert edge.lags(5001) == ()
    assert documents.traefik is None
    assert (documents.traefik_token, documents.prometheus_token) == ("", "")


async def test_every_target_has_its_name() -> None:
    edge, documents = await opened(**EVERYTHING)
    assert edge.names == ["technitium", "cloudflare", "rfc2136", "velocity", "traefik"]
    assert documents.traefik is edge.outlet("traefik")


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"ZLH_TECHNITIUM_URL": "http://10.0.0.2:5380"}, "[technitium] token"),
        ({"ZLH_VELOCITY_URL": "http://10.0.0.4:8081"}, "[velocity] secret"),
        ({"ZLH_TRAEFIK_TOKEN": "token", "ZLH_SERVER_HOST": "0.0.0.0"}, "[traefik] gateway_url"),
        ({"ZLH_TRAEFIK_TOKEN": "token", "ZLH_SERVER_HOST": "::"}, "[traefik] gateway_url"),
        ({"ZLH_TRAEFIK_TOKEN": "token", "ZLH_SERVER_PORT": "0"}, "[traefik] gateway_url"),
        ({"ZLH_RFC2136_SERVER": "10.0.0.3", "ZLH_RFC2136_KEY_NAME": "zlh"}, "[rfc2136] key_name, key_secret"),
        ({"ZLH_RFC2136_SERVER": "10.0.0.3", "ZLH_RFC2136_KEY_SECRET": SECRET}, "[rfc2136] key_name, key_secret"),
        (
            {
                "ZLH_RFC2136_SERVER": "10.0.0.3",
                "ZLH_RFC2136_KEY_NAME": "zlh",
                "ZLH_RFC2136_KEY_SECRET": "no-base64-at-all",
            },
            "[rfc2136] key_name, key_secret",
        ),
    ],
)
async def test_what_is_missing_is_said_at_the_start(environment: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsError) as raised:
        await opened(**environment)
    assert problem in str(raised.value)
    assert "no-base64-at-all" not in str(raised.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ZLH_TRAEFIK_HTTP_ENTRY_POINTS", ""),
        ("ZLH_TRAEFIK_TCP_PORTS", "30000"),
        ("ZLH_TRAEFIK_TCP_PORTS", "30010-30000"),
        ("ZLH_TRAEFIK_UDP_PORTS", "65000-70000"),
        ("ZLH_TRAEFIK_SETTLE_SECONDS", "0"),
        ("ZLH_EDGE_RESOLVER", "ns.example"),
        ("ZLH_EDGE_RESOLVER", "fd00::1"),
        ("ZLH_RFC2136_SERVER", "10.0.0.3:0"),
        ("ZLH_EDGE_INSTALLATION", "our installation"),
        ("ZLH_TECHNITIUM_GAME_ADDRESSES", "games.example"),
    ],
)
def test_what_is_wrong_is_said_with_its_name(key: str, value: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(CONFIG / "zlh.toml", {key: value})
    assert key in str(raised.value)
