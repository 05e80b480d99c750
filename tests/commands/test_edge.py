"""`zlh edge` against an API with one target, "far"."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.commands.office import Office, open_office
from tests.edge.far import publication
from zlh.drivers.errors import Unreachable
from zlh.model.edge import Entry


@pytest.fixture
async def office(postgres_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(postgres_url, tmp_path) as office:
        office.world.published.put(publication(5001))
        with trio.fail_after(30):
            while office.world.services.edge.reports()[0].actual != 1:  # noqa: ASYNC110 - it tells nobody
                await trio.sleep(0.01)
        yield office


async def test_every_target_is_listed(office: Office) -> None:
    said = await office.zlh("edge", "list")
    header, row = said.out.splitlines()
    assert header.split()[:5] == ["target", "state", "wanted", "there", "owed"]
    assert row.split()[:4] == ["far", "ok", "1", "1"]


async def test_a_difference_is_shown_and_mended(office: Office) -> None:
    assert (await office.zlh("edge", "diff")).out == "far: as wanted\n"
    office.world.target.there.clear()
    office.world.target.put(Entry(5009, "A", "left.zlh.test", "10.0.0.9", 60), mine=True)
    said = await office.zlh("edge", "diff", "--target", "far")
    assert said.status == 1
    assert said.out.splitlines() == [
        "far:",
        "  add      A ct-5001.zlh.test 10.0.0.1 (5001): it is missing",
        "  orphan   A left.zlh.test 10.0.0.9 (5009): nobody knows its container",
    ]
    assert len(office.world.target.there) == 1
    assert (await office.zlh("edge", "reconcile")).status == 0
    assert len(office.world.target.there) == 2


async def test_a_dead_target_is_told(office: Office) -> None:
    office.world.target.fail = Unreachable("it does not answer")
    said = await office.zlh("edge", "reconcile")
    assert (said.status, said.out) == (1, "far:\n  it does not answer\n")


async def test_what_cannot_be_asked_is_said_in_a_sentence(office: Office) -> None:
    unknown = await office.zlh("edge", "diff", "--target", "nowhere")
    assert (unknown.status, unknown.err) == (1, "zlh: the API said 404: there is no target nowhere\n")
    nobody = await office.installation.told("edge", "list", "--url", office.url)
    assert "ZLH_API_KEY is not set" in nobody.err
    away = await office.installation.told("edge", "list", "--url", "http://127.0.0.1:1", ZLH_API_KEY=office.key)
    assert away.err.startswith("zlh: the API at http://127.0.0.1:1 does not answer")
