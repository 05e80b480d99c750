from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from tests.edge.far import publication
from zlh.edge.traefik import GATEWAY, Routing, document, routes
from zlh.model.containers import ContainerType
from zlh.model.edge import Publication, Stage
from zlh.model.games import GameFacts, Games

FACTS = Games(
    {
        "generic": GameFacts("generic", "tcp", (), {"any": "x"}),
        "minecraft": GameFacts("minecraft", "tcp", (25565,), {"any": "x"}, velocity=True),
        "valheim": GameFacts("valheim", "udp", (2456, 2457), {"any": "x"}),
    }
)
ROUTING = Routing(FACTS, "ide.test", "http://10.0.0.9:8080", ("websecure",), cert_resolver="letsencrypt")


def drawn(*publications: Publication, routing: Routing = ROUTING) -> dict[str, dict[str, dict[str, object]]]:
    return document((entry for one in publications for entry in routes(one, routing)), routing)


def test_a_game_is_reached_at_its_public_ports() -> None:
    game = publication(5001, software="valheim", ports=(2456, 2457), public_ports=(30000, 30001), address="10.0.0.1")
    assert drawn(game) == {
        "udp": {
            "routers": {
                "game-5001-udp-30000": {"entryPoints": ["udp-30000"], "service": "game-5001-udp-30000"},
                "game-5001-udp-30001": {"entryPoints": ["udp-30001"], "service": "game-5001-udp-30001"},
            },
            "services": {
                "game-5001-udp-30000": {"loadBalancer": {"servers": [{"address": "10.0.0.1:2456"}]}},
                "game-5001-udp-30001": {"loadBalancer": {"servers": [{"address": "10.0.0.1:2457"}]}},
            },
        }
    }


def test_tcp_asks_for_no_name() -> None:
    game = publication(5001, public_ports=(30000,), address="fd00::1")
    routers = drawn(game)["tcp"]["routers"]
    assert routers == {
        "game-5001-tcp-30000": {
            "entryPoints": ["tcp-30000"],
            "rule": "HostSNI(`*`)",
            "service": "game-5001-tcp-30000",
        }
    }
    (service,) = drawn(game)["tcp"]["services"].values()
    assert service == {"loadBalancer": {"servers": [{"address": "[fd00::1]:7777"}]}}


def test_ides_and_forwarded_ports_lead_to_the_gateway() -> None:
    dev = publication(6001, ctype=ContainerType.DEV, software="python", ports=(), forwards=(3000,))
    http = drawn(dev)["http"]
    assert http["routers"] == {
        name: {
            "entryPoints": ["websecure"],
            "rule": f"Host(`{name}.ide.test`)",
            "service": GATEWAY,
            "tls": {"certResolver": "letsencrypt"},
        }
        for name in ("ide-6001", "p3000-6001")
    }
    assert http["services"] == {GATEWAY: {"loadBalancer": {"servers": [{"url": "http://10.0.0.9:8080"}]}}}


def test_what_has_no_routes() -> None:
    behind = Routing(FACTS, "ide.test", "http://10.0.0.9:8080", ("websecure",), velocity=True)
    minecraft = publication(5001, software="minecraft", ports=(25565,), public_ports=(30000,))
    assert drawn(minecraft, routing=behind) == {}
    assert drawn(minecraft) != {}
    for stage in (Stage.LEAVING, Stage.SUSPENDED):
        assert drawn(publication(5001, public_ports=(30000,), stage=stage)) == {}
    assert drawn(publication(5001, public_ports=(30000,), address=None)) == {}
    without = Routing(FACTS, "", "http://10.0.0.9:8080", ("websecure",))
    assert drawn(publication(6001, ctype=ContainerType.DEV, ports=()), routing=without) == {}


@given(
    st.lists(
        st.builds(
            publication,
            st.integers(5000, 5999),
            software=st.sampled_from(["minecraft", "valheim", "factorio"]),
            ctype=st.sampled_from(ContainerType),
            stage=st.sampled_from(Stage),
            ports=st.lists(st.integers(1, 65535), max_size=3).map(tuple),
            public_ports=st.lists(st.integers(30000, 30999), max_size=3, unique=True).map(tuple),
            forwards=st.lists(st.integers(1, 65535), max_size=3, unique=True).map(tuple),
        ),
        max_size=8,
    )
)
def test_every_router_has_its_service_and_nothing_is_empty(publications: list[Publication]) -> None:
    for section in drawn(*publications).values():
        assert section["routers"]
        assert section["services"]
        for name, router in section["routers"].items():
            assert re.fullmatch(r"[a-z0-9-]+", name)
            assert isinstance(router, dict)
            assert router["service"] in section["services"]
            assert router["entryPoints"]
