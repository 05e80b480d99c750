"""A name server for those inside and one for those outside, at the same time."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

import pytest

import actors
from tests.drivers.dns_far import Far, cloudflare_far, technitium_far
from tests.edge.far import FakeFleet, MemoryClaims, NoNumbers, publication
from tests.edge.test_dns import GAMES
from tests.edge.test_dns_faults import until
from zlh.edge import sync as sync_module
from zlh.edge.book import Book
from zlh.edge.dns import View, dns_entries
from zlh.edge.edge import Outlets
from zlh.edge.ledger import Ledger
from zlh.edge.sync import Sync
from zlh.simulators.far import FaultName

INSIDE = View("zlh.test", ("10.0.0.80",), ("10.0.0.90",), (), "", 25565, GAMES)
OUTSIDE = replace(INSIDE, games=("192.0.2.80", "2001:db8::80"), minecraft=("192.0.2.90",))
GAME, MINECRAFT = publication(5001), publication(5002, software="minecraft", ports=(25565,))


def leads(far: Far, vmid: int) -> set[str]:
    return {value for kind, name, value, _ in far.server.rows() if kind != "SRV" and name == f"ct-{vmid}.zlh.test"}


async def test_each_side_is_led_its_own_way_and_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "BACKOFF_SECONDS", 0.02)
    async with technitium_far() as inside, cloudflare_far() as outside, AsyncExitStack() as stack:
        fleet = FakeFleet(GAME)
        book, outlets = Book(fleet, NoNumbers()), []
        for name, far, view in (("inside", inside, INSIDE), ("outside", outside, OUTSIDE)):
            entries = partial(dns_entries, view=view)
            outlets.append(Sync(name, far.system, entries, book, Ledger(MemoryClaims()), beat_seconds=300))
        edge = Outlets(book, outlets)
        await stack.enter_async_context(actors.open_system(edge.spec()))
        await until(lambda: not edge.lags(5001))
        assert leads(inside, 5001) == {"10.0.0.80"}
        assert leads(outside, 5001) == {"192.0.2.80", "2001:db8::80"}

        outside.server.cause(FaultName.DOWN)
        fleet.put(MINECRAFT)
        fleet.drop(5001)
        await until(lambda: leads(inside, 5002) and not leads(inside, 5001))
        await until(lambda: outlets[1].report().error)
        await until(lambda: [(lag.target, lag.soon) for lag in edge.lags(5002)] == [("outside", False)])
        assert {entry.name for entry in outlets[1].report().owed} >= {"ct-5001.zlh.test"}
        assert leads(inside, 5002) == {"10.0.0.90"}

        outside.server.calm()
        await until(lambda: not edge.lags(5002) and not outlets[1].report().owed)
        assert leads(outside, 5002) == {"192.0.2.90"}
        assert leads(outside, 5001) == set()
        services = {value for kind, _, value, _ in outside.server.rows() if kind == "SRV"}
        assert services == {"0 0 25565 ct-5002.zlh.test"}
