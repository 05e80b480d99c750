"""The resolver against a real name server, and against nobody."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.dns_contract import ZONE
from tests.drivers.rfc2136.knot import HOST, Knot
from zlh.drivers import resolver
from zlh.drivers.errors import NotFound, Unreachable
from zlh.drivers.resolver import NameServer

EXTRA = f"""\
both 60 IN A 192.0.2.1
both 60 IN AAAA 2001:0db8:0::0001
six 60 IN AAAA 2001:db8::2
alias 60 IN CNAME both.{ZONE}.
mail 60 IN MX 10 both.{ZONE}.
"""


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    knot = Knot(tmp_path, EXTRA)
    knot.start()
    yield knot
    knot.stop()


async def test_where_names_lead(knot: Knot) -> None:
    server = NameServer(HOST, knot.port)
    assert await server.addresses(f"both.{ZONE}") == {"192.0.2.1", "2001:db8::1"}
    assert await server.addresses(f"six.{ZONE}") == {"2001:db8::2"}
    assert await server.addresses(f"alias.{ZONE}") == {"192.0.2.1", "2001:db8::1"}
    for name in (f"none.{ZONE}", f"mail.{ZONE}"):
        with pytest.raises(NotFound):
            await server.addresses(name)


async def test_a_name_that_comes_is_there_at_once(knot: Knot) -> None:
    server = NameServer(HOST, knot.port)
    with pytest.raises(NotFound):
        await server.addresses(f"new.{ZONE}")
    knot.update(kind="A", name=f"new.{ZONE}", value="192.0.2.3")
    assert await server.addresses(f"new.{ZONE}") == {"192.0.2.3"}


async def test_no_answer_is_not_no_address(knot: Knot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "SECONDS", 0.2)
    server = NameServer(HOST, knot.port)
    knot.freeze(signal.SIGSTOP)
    try:
        with pytest.raises(Unreachable):
            await server.addresses(f"both.{ZONE}")
    finally:
        knot.freeze(signal.SIGCONT)
    knot.stop()
    with pytest.raises(Unreachable):
        await server.addresses(f"both.{ZONE}")
    knot.start()
    assert await server.addresses(f"both.{ZONE}") == {"192.0.2.1", "2001:db8::1"}


async def test_who_does_not_serve_the_zone_cannot_say(knot: Knot) -> None:
    with pytest.raises(Unreachable):
        await NameServer(HOST, knot.port).addresses("www.elsewhere.example")
