"""What DNS is told of containers."""

from __future__ import annotations

import ipaddress
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.edge.far import ZONE, publication
from zlh.edge.dns import View, dns_entries, leads_to
from zlh.model.containers import ContainerType
from zlh.model.edge import Publication
from zlh.model.games import parse_games

GAMES = parse_games(tomllib.loads((Path(__file__).parents[2] / "config" / "games.toml").read_text("utf-8")))
INSIDE = View(ZONE, ("10.9.0.1",), ("10.9.0.2",), ("10.9.0.3",), f"ide.{ZONE}", 25565, GAMES)
DEV = publication(6001, ctype=ContainerType.DEV, software="node", variant="", ports=())


def told(one: object, view: View = INSIDE) -> list[str]:
    return [str(entry) for entry in dns_entries(one, view)]  # type: ignore[arg-type]


def test_a_game_is_found_at_the_routing_edge() -> None:
    assert told(publication(5001)) == [
        "A ct-5001.zlh.test 10.9.0.1",
        "SRV _terraria._tcp.ct-5001.zlh.test 0 0 7777 ct-5001.zlh.test",
    ]


def test_players_are_told_the_public_port() -> None:
    assert "SRV _terraria._tcp.ct-5001.zlh.test 0 0 30007 ct-5001.zlh.test" in told(
        publication(5001, public_ports=(30007,))
    )


@pytest.mark.parametrize(
    ("software", "ports", "name", "port"),
    [
        ("rust", (28015, 28016), "_rust._udp", 28015),
        ("projectzomboid", (), "_projectzomboid._udp", 16261),
        ("valheim", (2456,), "_valheim._udp", 2456),
        ("palworld", (8211,), "_palworld._udp", 8211),
        ("another", (4000,), "_generic._tcp", 4000),
    ],
)
def test_each_game_has_its_service(software: str, ports: tuple[int, ...], name: str, port: int) -> None:
    host = "ct-5001.zlh.test"
    assert f"SRV {name}.{host} 0 0 {port} {host}" in told(publication(5001, software=software, ports=ports))


def test_a_game_without_ports_has_no_service_record() -> None:
    assert told(publication(5001, software="another", ports=())) == ["A ct-5001.zlh.test 10.9.0.1"]


def test_minecraft_is_found_at_velocity_where_there_is_one() -> None:
    one = publication(5001, software="minecraft", variant="paper", ports=(25570,), public_ports=(30001,))
    assert told(one) == [
        "A ct-5001.zlh.test 10.9.0.2",
        "SRV _minecraft._tcp.ct-5001.zlh.test 0 0 25565 ct-5001.zlh.test",
    ]
    assert told(one, replace(INSIDE, velocity_port=None)) == [
        "A ct-5001.zlh.test 10.9.0.1",
        "SRV _minecraft._tcp.ct-5001.zlh.test 0 0 30001 ct-5001.zlh.test",
    ]
    assert told(one, replace(INSIDE, minecraft=()))[0] == "A ct-5001.zlh.test 10.9.0.1"


def test_both_families_and_one_spelling() -> None:
    view = replace(INSIDE, games=("10.9.0.1", "2001:DB8:0::1", "2001:db8::1"))
    assert told(publication(5001), view)[:2] == ["A ct-5001.zlh.test 10.9.0.1", "AAAA ct-5001.zlh.test 2001:db8::1"]


def test_an_ide_is_found_by_its_name_where_its_zone_is_ours() -> None:
    assert told(DEV) == ["A ide-6001.ide.zlh.test 10.9.0.3"]
    forwarding = replace(DEV, forwards=(3000,))
    assert told(forwarding) == ["A ide-6001.ide.zlh.test 10.9.0.3", "A p3000-6001.ide.zlh.test 10.9.0.3"]
    assert told(DEV, replace(INSIDE, ide_zone="ide.example")) == []
    assert told(DEV, replace(INSIDE, ide_zone="")) == []
    assert told(DEV, replace(INSIDE, ides=())) == []
    assert told(DEV, replace(INSIDE, ide_zone=ZONE.upper())) == ["A ide-6001.zlh.test 10.9.0.3"]


def test_nothing_outside_the_zone() -> None:
    for hostname in ("ct-5001", "ct-5001.example", f"ct-5001.{ZONE}.example", ZONE, f"other{ZONE}"):
        assert told(publication(5001, hostname=hostname)) == []
    assert told(publication(5001), replace(INSIDE, games=())) == []


LABELS = st.from_regex(r"[A-Za-z0-9_.-]{1,70}", fullmatch=True) | st.text(max_size=20)
ADDRESSES = st.lists(st.ip_addresses().map(str), max_size=3).map(tuple)
PORTS = st.lists(st.integers(1, 65535), max_size=2).map(tuple)


@given(
    st.builds(
        publication,
        st.integers(100, 999_999_999),
        ctype=st.sampled_from(ContainerType),
        software=st.sampled_from([*GAMES.facts, "another"]),
        hostname=LABELS | LABELS.map(lambda label: f"{label}.{ZONE}"),
        ports=PORTS,
        public_ports=st.none() | PORTS,
        forwards=PORTS.map(set).map(tuple),
    ),
    st.builds(
        View,
        st.sampled_from([ZONE, ZONE.upper(), f"sub.{ZONE}"]),
        ADDRESSES,
        ADDRESSES,
        ADDRESSES,
        st.sampled_from(["", ZONE, f"Ide.{ZONE}", "ide.example"]),
        st.none() | st.integers(1, 65535),
        st.just(GAMES),
    ),
)
def test_every_entry_is_one_that_dns_takes(one: Publication, view: View) -> None:
    entries = dns_entries(one, view)
    assert len({entry.key for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.name == entry.name.lower()
        assert entry.name.endswith(f".{view.zone.lower()}")
        assert entry.name.isascii()
        assert len(entry.name) <= 253
        assert all(0 < len(label) <= 63 for label in entry.name.split("."))
        assert entry.ttl == 60
        of_name = {other.value for other in entries if other.name == entry.name and other.kind != "SRV"}
        assert entry.kind == "SRV" or leads_to(one, entry.name, view) == of_name
        if entry.kind == "SRV":
            priority, weight, port, target = entry.value.split(" ")
            assert (priority, weight) == ("0", "0")
            assert 0 < int(port) < 65536
            assert entry.name.endswith(f".{target}")
        else:
            version = {"A": 4, "AAAA": 6}[entry.kind]
            assert str(ipaddress.ip_address(entry.value)) == entry.value
            assert ipaddress.ip_address(entry.value).version == version
