from __future__ import annotations

from dataclasses import replace

import pytest
import trio

import actors
from tests.edge.far import FakeFleet, MemoryClaims, MemoryTarget, NoNumbers, address_entries
from tests.edge.test_sync import a, until
from zlh.drivers.errors import Unreachable
from zlh.edge import edge as edge_module
from zlh.edge.book import Book
from zlh.edge.edge import Outlets
from zlh.edge.ledger import Ledger
from zlh.edge.sync import Sync


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_target_that_is_away_keeps_no_other_from_being_swept(
    autojump_clock: trio.testing.MockClock, hangs: bool
) -> None:
    targets = {name: MemoryTarget() for name in ("away", "here", "clean")}
    for name in ("away", "here"):
        targets[name].put(replace(a(5009), vmid=5009), mine=True)
    book = Book(FakeFleet(), NoNumbers())
    outlets = Outlets(
        book,
        [
            Sync(name, target, address_entries, book, Ledger(MemoryClaims()), beat_seconds=300)
            for name, target in targets.items()
        ],
    )
    async with actors.open_system(outlets.spec()):
        await until(lambda: len(outlets.orphans()) == 2)
        if hangs:
            targets["away"].seconds = 3600
        else:
            targets["away"].fail = Unreachable("it does not answer")
        began = trio.current_time()
        swept = await outlets.sweep()
        assert trio.current_time() - began <= edge_module.SWEEP_SECONDS
        outcomes = {name: outcome for name, _entry, outcome in swept}
        assert outcomes == {
            "away": "not known to be swept within 30 s" if hangs else "not swept: it does not answer",
            "here": "removed",
        }
        assert not targets["here"].there
