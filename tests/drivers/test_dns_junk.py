"""Answers of name servers in which one thing after the other is of a wrong type, or missing: each is understood, or
is one of our errors."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import pytest
import trio

from tests.drivers.dns_contract import GAME, SERVICE, SRV, ZONE, A, add
from tests.drivers.dns_far import TOKEN, CloudflareFar, TechnitiumFar
from zlh.drivers.cloudflare import LONGEST_REST_SECONDS
from zlh.drivers.errors import DriverError, Unreachable
from zlh.model.edge import System
from zlh.simulators.agent.http import Request, Response
from zlh.simulators.cloudflare import Cloudflare
from zlh.simulators.far import FarSystem
from zlh.simulators.technitium import Technitium

WRONG: list[Any] = [None, True, -1, 1e300, "", "x", "\x00", [], [[]], {}, {"type": "A"}]
GONE = object()
Path = tuple[str | int, ...]


def paths(document: Any, here: Path = ()) -> Iterator[Path]:
    yield here
    nodes = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in nodes:
        yield from paths(value, (*here, key))


def changed(document: Any, path: Path, value: Any) -> Any:
    if not path:
        return None if value is GONE else value
    document = copy.deepcopy(document)
    node = document
    for key in path[:-1]:
        node = node[key]
    if value is GONE:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return document


class Liar:
    """Between the driver and a simulator: `lie`, once set, is what it answers instead."""

    def __init__(self, system: FarSystem) -> None:
        self.truth: list[Any] = []
        self.lie: Any = GONE
        self.headers: tuple[tuple[str, str], ...] = ()
        self._answer = system.answer
        system.answer = self.answer  # type: ignore[method-assign]

    async def answer(self, request: Request) -> Response:
        if self.lie is GONE:
            response = await self._answer(request)
            self.truth.append(orjson.loads(response.body))
            return response
        return Response(429 if self.headers else 200, orjson.dumps(self.lie), headers=self.headers)


@pytest.fixture(params=["technitium", "cloudflare"])
async def far(request: pytest.FixtureRequest) -> AsyncIterator[tuple[System, Liar]]:
    server = Technitium(ZONE, TOKEN) if request.param == "technitium" else Cloudflare(ZONE, TOKEN)
    liar = Liar(server)
    far = TechnitiumFar(server) if isinstance(server, Technitium) else CloudflareFar(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        assert await far.system.apply([add(A), add(SRV)]) == [None, None]
        server.put("CNAME", f"www.{ZONE}", GAME)
        yield far.system, liar
        await far.system.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("names", [None, [GAME, SERVICE]], ids=["all", "some"])
async def test_lies_are_understood_or_refused(far: tuple[System, Liar], names: list[str] | None) -> None:
    system, liar = far
    liar.truth.clear()
    await system.look(names)
    truth = liar.truth[-1]
    tried = 0
    for path in paths(truth):
        for wrong in (*WRONG, GONE):
            liar.lie = changed(truth, path, wrong)
            tried += 1
            said = ""
            try:
                with trio.fail_after(5):
                    await system.look(names)
            except DriverError as error:
                said = str(error)
            assert "\n" not in said
            assert TOKEN not in said
    assert tried > 100
    liar.lie = GONE
    assert await system.look(names)


async def test_no_server_wants_to_be_left_alone_for_ever(mock_clock: trio.testing.MockClock) -> None:
    server = Cloudflare(ZONE, TOKEN)
    liar, far = Liar(server), CloudflareFar(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        liar.lie, liar.headers = {}, (("Retry-After", "9" * 400),)
        with pytest.raises(Unreachable):
            await far.system.look(None)
        liar.lie, liar.headers = GONE, ()
        mock_clock.jump(LONGEST_REST_SECONDS)
        assert await far.system.look(None) == []
        await far.system.aclose()
        nursery.cancel_scope.cancel()
