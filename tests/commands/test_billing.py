"""`zlh billing` against an API that sells nothing: what operators give is all there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.world import PAPER
from tests.commands.office import Office, open_office


@pytest.fixture
async def office(postgres_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(postgres_url, tmp_path) as office:
        yield office


async def test_whether_money_and_machines_agree(office: Office) -> None:
    said = await office.zlh("billing", "check")
    assert (said.status, said.out.splitlines()) == (
        0,
        ["compared with Stripe: never", "money and machines agree"],
    )
    ada, _ = await office.world.account("ada", plan=None)
    office.world.fleet.add(ada, PAPER)
    said = await office.zlh("billing", "check")
    assert said.status == 1
    assert "container_without_plan: " in said.out
    assert f"(account {ada.id}, container 5001)" in said.out
    assert "money and machines agree" not in said.out
    said = await office.zlh("billing", "give", str(ada.id), "starter", "--reason", "a friend of the house")
    assert said.out == f"account {ada.id} (ada) has the plan starter\n"
    assert (await office.zlh("billing", "check")).status == 0


async def test_nothing_differs(office: Office) -> None:
    said = await office.zlh("billing", "reconcile", "--dry-run")
    assert (said.status, said.out) == (0, "nothing differs\n")


async def test_limits_of_one_account(office: Office) -> None:
    ada, _ = await office.world.account("ada", plan="starter")
    words = ("billing", "give", str(ada.id), "starter", "--reason", "a large world")
    said = await office.zlh(*words, "--limit", "memoryMib=65536", "--until", "2999-01-01T00:00:00+00:00")
    assert said.status == 0
    again = await office.world.services.accounts.account(ada.id)
    assert (dict(again.plan_exceptions), again.granted_until is not None) == ({"memory_mib": 65536}, True)
    for wrong in (("--limit", "memoryMib=much"), ("--limit", "planets=3"), ("--until", "tomorrow")):
        assert (await office.zlh(*words, *wrong)).status != 0
    taken = await office.zlh("billing", "give", str(ada.id), "none", "--reason", "moved away")
    assert taken.out == f"account {ada.id} (ada) has the plan none\n"
