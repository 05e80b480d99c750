"""Facts of games, and the payloads made of them; config/games.toml is held against the shipped catalog."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.drivers.catalog import parse_catalog
from zlh.model.containers import Container, ContainerType, Resources, Software
from zlh.model.games import agent_payload, parse_games, version_parts

CONFIG = Path(__file__).parents[2] / "config"
GAMES = parse_games(tomllib.loads((CONFIG / "games.toml").read_text("utf-8")))
CATALOG = parse_catalog(json.loads((CONFIG / "catalog.json").read_text("utf-8")))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
JAVA_21, JAVA_17 = "java/21/OpenJDK21.tar.gz", "java/17/OpenJDK17.tar.gz"

SERVER = Container(
    vmid=5001,
    owner_id=1,
    ctype=ContainerType.GAME,
    name="mine",
    hostname="mine",
    software=Software("minecraft", "1.21.1", "paper", "world"),
    resources=Resources(2048, 2, 10),
    ports=(25570,),
    agent_token="token",
    created_at=NOW,
    updated_at=NOW,
)


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ("1.12.2", JAVA_17),
        ("1.20", JAVA_17),
        ("1.20.4", JAVA_17),
        ("1.20.5", JAVA_21),
        ("1.20.6", JAVA_21),
        ("1.21", JAVA_21),
        ("1.21.11", JAVA_21),
        ("1.100", JAVA_21),
        ("no numbers", JAVA_17),
    ],
)
def test_minecrafts_java(version, path):
    assert GAMES.of("minecraft").java_path(version) == path


@pytest.mark.parametrize(
    ("variant", "path"),
    [
        ("forge", "minecraft/forge/1.21.1/forge-installer.jar"),
        ("neoforge", "minecraft/neoforge/1.21.1/neoforge-installer.jar"),
        ("fabric", "minecraft/fabric/1.21.1/fabric-server.jar"),
        ("paper", "minecraft/paper/1.21.1/server.jar"),
        ("purpur", "minecraft/purpur/1.21.1/server.jar"),
        ("vanilla", "minecraft/vanilla/1.21.1/server.jar"),
    ],
)
def test_minecrafts_artifacts(variant, path):
    assert GAMES.of("minecraft").artifact_path("minecraft", variant, "1.21.1") == path


@pytest.mark.parametrize(
    ("game", "proto", "port"),
    [
        ("minecraft", "tcp", 25565),
        ("rust", "udp", 28015),
        ("terraria", "tcp", 7777),
        ("projectzomboid", "udp", 16261),
        ("valheim", "udp", 2456),
        ("palworld", "udp", 8211),
    ],
)
def test_the_services_of_games(game, proto, port):
    facts = GAMES.of(game)
    assert (facts.service, facts.proto, facts.ports[0]) == (game, proto, port)


def test_a_game_without_an_entry_is_generic():
    facts = GAMES.of("new")
    assert (facts.service, facts.proto, facts.ports, facts.java_path("1")) == ("generic", "tcp", (), "")
    assert facts.artifact_path("new", "v", "2") == "new/v/2/server.tar.gz"


def test_everything_in_the_shipped_catalog_can_be_configured():
    for game in CATALOG.games:
        assert game.id in GAMES.facts
        for variant in game.variants:
            assert variant.versions
            for version in variant.versions:
                software = Software(game.id, version, variant.id)
                payload = agent_payload(dataclasses.replace(SERVER, software=software, ports=()), GAMES)
                assert version in payload["artifact_path"]
                assert payload["ports"]


def test_a_game_payload():
    assert agent_payload(SERVER, GAMES) == {
        "vmid": 5001,
        "container_type": "game",
        "game": "minecraft",
        "variant": "paper",
        "version": "1.21.1",
        "world": "world",
        "ports": [25570],
        "artifact_path": "minecraft/paper/1.21.1/server.jar",
        "java_path": JAVA_21,
        "memory_mb": 2048,
        "agent_token": "token",
    }


def test_a_dev_payload():
    row = dataclasses.replace(SERVER, ctype=ContainerType.DEV, software=Software("python", "3.13"), vmid=6001)
    assert agent_payload(row, GAMES) == {
        "vmid": 6001,
        "container_type": "dev",
        "runtime": "python",
        "version": "3.13",
        "memory_mb": 2048,
        "agent_token": "token",
        "code_server": {"enabled": True, "port": 8443},
    }


def test_a_variant_without_an_artifact_is_a_key_error():
    with pytest.raises(KeyError):
        GAMES.of("minecraft").artifact_path("minecraft", "sponge", "1.21")


def test_every_problem_of_the_facts_is_listed():
    broken = {
        "a": {"service": "", "proto": "sctp", "ports": [0], "odd": 1, "artifacts": {"any": "{home}"}},
        "b": {"service": "b", "proto": "tcp", "ports": [True], "artifacts": {"any": 7}, "java": [{"since": "x"}]},
        "c": 7,
    }
    with pytest.raises(ValueError) as caught:
        parse_games(broken)
    text = str(caught.value)
    for part in ("odd: unknown", "[a] service", "[a] proto", "[a] ports", "[a.artifacts] any", "[b] ports"):
        assert part in text
    for part in ("[b.artifacts] any", "[[b.java]]", "c: a table", "[generic] is missing"):
        assert part in text


@given(st.text())
def test_any_text_has_version_parts(version):
    assert all(isinstance(part, int) for part in version_parts(version))
