"""What simulated systems of other makers have in common: a listener that can go away, faults by name, and counts of
what was asked.

    down          nothing listens
    slow          every answer takes `seconds` (1)
    refusing      nobody is let in any more
    broken        every answer is 500
    half          of what is to be changed, `count` more things are (3); then 500
    lost_answer   changes are made, but the connection closes without an answer
    too_many      429, with `Retry-After: seconds` (1)
    garbage       an answer that is not JSON
    strangers     lists show another's records instead of what was asked for

`times`, where given, is how many requests meet the fault before it is over.
"""

from __future__ import annotations

import json
import signal
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import trio

from zlh.simulators.agent.http import Refusal, Request, Response, json_response, listen, serve


class FaultName(StrEnum):
    DOWN = "down"
    SLOW = "slow"
    REFUSING = "refusing"
    BROKEN = "broken"
    HALF = "half"
    LOST_ANSWER = "lost_answer"
    TOO_MANY = "too_many"
    GARBAGE = "garbage"
    STRANGERS = "strangers"


@dataclass
class Fault:
    name: FaultName
    seconds: float = 1.0
    count: int = 3
    times: int | None = None

    @classmethod
    def parse(cls, wish: Mapping[str, Any]) -> Fault:
        """From `{"fault": name, ...}`; raises Refusal(400)."""
        parameters = {name: value for name, value in wish.items() if name != "fault"}
        if wish.get("fault") not in list(FaultName):
            raise Refusal(400, f"`fault` is none of {', '.join(FaultName)}")
        if not parameters.keys() <= {"seconds", "count", "times"}:
            raise Refusal(400, "a fault has `seconds`, `count` and `times`")
        if not all(isinstance(value, int | float) for value in parameters.values()):
            raise Refusal(400, "`seconds`, `count` and `times` are numbers")
        return cls(FaultName(wish["fault"]), **parameters)


class Broken(Exception):
    """In the middle of a change: 500."""


class FarSystem:
    """One system on a loopback port that stays the same. Subclasses answer; whatever changes something calls `spend`
    just before. `calls` counts requests by method and path, `on_call` is called with each."""

    def __init__(self, port: int = 0) -> None:
        self._listener: socket.socket | None = listen("127.0.0.1", port)
        self.port: int = self._listener.getsockname()[1]
        self.calls: Counter[str] = Counter()
        self.on_call: Callable[[], None] = lambda: None
        self._faults: dict[FaultName, Fault] = {}
        self._changed = trio.Event()
        self._listening = trio.CancelScope()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def run(self) -> None:
        """Serves until cancelled."""
        while True:
            while FaultName.DOWN in self._faults:
                if self._listener is not None:
                    self._listener.close()
                self._listener = None
                await self._changed.wait()
            with trio.CancelScope() as self._listening:
                if self._listener is None:
                    self._listener = listen("127.0.0.1", self.port)
                await serve(self._listener, self._serve)

    # What can be wrong

    def cause(self, name: FaultName | str, *, seconds: float = 1.0, count: int = 3, times: int | None = None) -> None:
        self.set_fault(Fault(FaultName(name), seconds, count, times))

    def set_fault(self, fault: Fault) -> None:
        self._faults[fault.name] = fault
        if fault.name is FaultName.DOWN:
            self._listening.cancel()

    def calm(self) -> None:
        """Ends every fault."""
        self._faults.clear()
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def fault(self, name: FaultName) -> Fault | None:
        """Where it is on; a use of it."""
        fault = self._faults.get(name)
        if fault is not None and fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                del self._faults[name]
        return fault

    def spend(self) -> None:
        """One thing is about to be changed. Raises Broken."""
        half = self._faults.get(FaultName.HALF)
        if half is None:
            return
        if half.count <= 0:
            raise Broken
        half.count -= 1

    # Requests

    async def answer(self, request: Request) -> Response:
        """Raises Refusal, Broken."""
        raise NotImplementedError

    def refused(self) -> Response:
        """How it says that nobody is let in."""
        raise NotImplementedError

    def changes(self, request: Request) -> bool:
        """Whether a request is to change something."""
        raise NotImplementedError

    def broken(self) -> Response:
        """How it says that something in it is broken."""
        return json_response({"error": "something is broken"}, 500)

    def too_many(self) -> Response:
        """How it says that it is asked too often."""
        return json_response({"error": "too many requests"}, 429)

    async def delay(self) -> None:
        """Before anything is looked at."""
        slow = self.fault(FaultName.SLOW)
        if slow is not None:
            await trio.sleep(slow.seconds)

    async def _serve(self, request: Request) -> Response | None:
        if request.path.startswith("/simulator/"):
            return await self.control(request)
        self.calls[f"{request.method} {request.path}"] += 1
        self.on_call()
        instead = await self._instead()
        if instead is not None:
            return instead
        try:
            response = await self.answer(request)
        except Broken:
            return self.broken()
        if self.changes(request) and self.fault(FaultName.LOST_ANSWER):
            return None
        return response

    async def _instead(self) -> Response | None:
        await self.delay()
        if self.fault(FaultName.REFUSING):
            return self.refused()
        if self.fault(FaultName.BROKEN):
            return self.broken()
        if self.fault(FaultName.GARBAGE):
            return Response(200, b"<html>welcome</html>", "text/html")
        too_many = self.fault(FaultName.TOO_MANY)
        if too_many is not None:
            response = self.too_many()
            response.headers = (*response.headers, ("Retry-After", f"{too_many.seconds:.0f}"))
            return response
        return None

    # For the demo, and tests in other processes

    async def control(self, request: Request) -> Response:
        """Raises Refusal."""
        match request.method, request.path:
            case "POST", "/simulator/faults":
                self.set_fault(Fault.parse(await request.json()))
                return json_response({})
            case "DELETE", "/simulator/faults":
                self.calm()
                return json_response({})
            case "GET", "/simulator/state":
                return json_response({"calls": dict(self.calls), **self.state()})
            case _:
                raise Refusal(404, "no such endpoint")

    def state(self) -> dict[str, Any]:
        """What it holds, for GET /simulator/state."""
        return {}


async def run_until_signal(system: FarSystem) -> None:
    """As a process of its own: prints one JSON line once it listens, and ends on SIGTERM or SIGINT."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(system.run)
        print(json.dumps({"url": system.url}), flush=True)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            await anext(aiter(signals))
        nursery.cancel_scope.cancel()
