"""A customer who stops paying, on real processes: subscribed, made a server, suspended, fetched the data, paid, runs.

Stripe's clock is a month behind until the renewal, so that what it is owed for is already over when ours hears of it;
of the plans' grace nothing is left.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.faults.scenes import a_game
from tests.faults.selling import open_selling, page
from tests.faults.world import ROOT, World, open_world
from tests.journeys.test_mail import found
from zlh.simulators.stripe import DAY, Card, SimulatedStripe

BEHIND = 33 * DAY
SOON = 30.0
FILE = "/api/game/{vmid}/files/content?path=notes.txt"
NOTES = b"what must not be lost\n"


@asynccontextmanager
async def open_unforgiving(folder: Path) -> AsyncIterator[tuple[World, SimulatedStripe]]:
    """A world with a running API whose plans have no days of grace, and a Stripe whose clock is behind."""
    config = folder / "config"
    shutil.copytree(ROOT / "config", config)
    plans = config / "plans.toml"
    plans.write_text(re.sub(r"(?m)^grace_days = \d+$", "grace_days = 0", plans.read_text()))
    async with (
        open_world() as world,
        open_selling(world, wall=lambda: time.time() - BEHIND, invoice_wait=0) as stripe,
    ):
        world.config = config / "zlh.toml"
        world.settings |= {"ZLH_MAIL_MODE": "folder", "ZLH_MAIL_FOLDER": str(folder / "mail")}
        pid = await world.start()
        yield world, stripe
        await world.kill(pid)


async def seen(world: World, path: str, holds: Callable[[Any], bool]) -> Any:
    """What is answered there once that holds."""
    shown: Any = None
    with trio.move_on_after(SOON):
        while not holds(shown := await world.call("GET", path)):  # noqa: ASYNC110 - other processes decide
            await trio.sleep(0.05)
        return shown
    raise AssertionError(f"not within {SOON:g} s: {shown}")


async def refusal(world: World, method: str, path: str, body: Any = None) -> tuple[int, str]:
    async with world.client() as client:
        answer = await client.request(method, path, json=body)
    return answer.status_code, answer.json()["code"]


async def written(world: World, folder: Path, kind: str) -> None:
    """Waits for a letter of that kind to the customer."""
    with trio.fail_after(SOON):
        while not found(folder / "mail", kind, "ada@example.com"):  # noqa: ASYNC110 - another process writes it
            await trio.sleep(0.05)


async def test_who_does_not_pay_stops_keeps_the_data_and_goes_on_after_paying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Our hour from now is far ahead of a Stripe that is behind.
    monkeypatch.setattr("zlh.simulators.stripe.sessions.LONGEST", BEHIND + 2 * DAY)
    async with open_unforgiving(tmp_path) as (world, stripe):
        await world.register("ada")
        assert await refusal(world, "POST", "/api/instances", a_game("mine")) == (402, "no_active_plan")

        stripe.pay(await page(world, stripe))
        await seen(world, "/api/billing", lambda shown: shown["status"] == "active")
        ordered = await world.call("POST", "/api/instances", a_game("mine"))
        assert (await world.finished(ordered["operation"]["id"]))["state"] == "succeeded"
        vmid: int = ordered["vmid"]
        server, file = f"/api/servers/{vmid}", FILE.format(vmid=vmid)
        await seen(world, server, lambda shown: shown["status"] == "running")
        async with world.client() as client:
            assert (await client.put(file, content=NOTES)).is_success

        (customer,) = stripe.of("customer")
        stripe.set_card(customer["id"], Card.DECLINED)
        stripe.advance(32 * DAY)
        shown = await seen(world, "/api/billing", lambda shown: shown["suspendedAt"] is not None)
        assert (shown["status"], shown["plan"]["name"]) == ("past_due", "starter")
        await seen(world, server, lambda shown: shown["status"] == "host offline" and shown["suspended"])
        with trio.fail_after(SOON):
            while (await world.cluster.containers())[vmid]["running"]:  # noqa: ASYNC110 - another process decides
                await trio.sleep(0.05)
        await written(world, tmp_path, "billing_suspended")
        for path in ("host/start", "game/start", "host/restart"):
            assert await refusal(world, "POST", f"{server}/{path}") == (403, "suspended"), path
        assert await refusal(world, "POST", "/api/instances", a_game("another")) == (403, "suspended")

        opened = await world.call("POST", f"{server}/retrieval", {"minutes": 5})
        await world.finished(opened["operation"]["id"])
        async with world.client() as client:
            fetched = await _soon(client, file)
            assert fetched.content == NOTES
            assert (await client.put(file, content=b"changed")).status_code == 403
        assert await refusal(world, "POST", f"{server}/game/start") == (403, "suspended")

        # They give another card on Stripe's page, and what is open is paid there.
        stripe.fix_card(customer["id"])
        await seen(world, "/api/billing", lambda shown: shown["status"] == "active")
        shown = await seen(world, server, lambda shown: shown["status"] == "running" and not shown["suspended"])
        await written(world, tmp_path, "billing_resumed")
        await world.call("POST", f"{server}/game/restart")
        assert [invoice["amount_paid"] for invoice in stripe.of("invoice")] == [900, 900]

        world.token = await world.make_operator()
        books = await seen(world, "/api/operators/billing/invariants", lambda books: books["green"])
        assert books["proposals"] == []
        compared = await world.call("POST", "/api/billing/reconcile", {})
        assert (compared["findings"], compared["error"]) == ([], None)


async def _soon(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """A good answer, as soon as the agent is up."""
    with trio.fail_after(SOON):
        while not (answer := await client.get(path)).is_success:  # noqa: ASYNC110
            await trio.sleep(0.1)
    return answer
