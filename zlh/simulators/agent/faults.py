"""What can be wrong with an agent, by name, and the wire damage that some of the names mean.

on the wire   slow (`seconds`, 1), hung, garbage (bytes that are no JSON), not_http, huge (`bytes`, 10 MiB),
              wrong_types, dripping (a byte each `seconds`, 0.2), flapping (up and down in turns of `seconds`, 3),
              half_answer, wrong_length (Content-Length is too small), refusing (nothing listens), deep (lists in
              lists, 30,000 levels), not_a_number (NaN for every number), absurd (10^40 for every number)
in the words  lying (says running and not ready; with `flip`, ready in every second answer), old_version (knows only
              the endpoints that every agent has)
in the game   crash_on_start, install_fails, install_hangs, console_flood (`rate` lines a second, 5,000)
in backups    backup_fails, restore_fails, restore_hangs

`path` limits a wire fault to paths that begin with it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import orjson
import trio

from zlh.simulators.agent.http import Connection, Refusal, Response

_NUMBER = re.compile(rb":-?\d[\d.eE+-]*")


class FaultName(StrEnum):
    SLOW = "slow"
    HUNG = "hung"
    REFUSING = "refusing"
    DEEP = "deep"
    NOT_A_NUMBER = "not_a_number"
    ABSURD = "absurd"
    GARBAGE = "garbage"
    NOT_HTTP = "not_http"
    HUGE = "huge"
    WRONG_TYPES = "wrong_types"
    DRIPPING = "dripping"
    LYING = "lying"
    FLAPPING = "flapping"
    OLD_VERSION = "old_version"
    HALF_ANSWER = "half_answer"
    WRONG_LENGTH = "wrong_length"
    CRASH_ON_START = "crash_on_start"
    INSTALL_FAILS = "install_fails"
    INSTALL_HANGS = "install_hangs"
    CONSOLE_FLOOD = "console_flood"
    BACKUP_FAILS = "backup_fails"
    RESTORE_FAILS = "restore_fails"
    RESTORE_HANGS = "restore_hangs"


@dataclass(frozen=True, slots=True)
class Fault:
    """`seconds`, `rate` and `bytes` fall back to the defaults named at the top of this file."""

    name: FaultName
    path: str = "/"
    seconds: float | None = None
    rate: int = 5000
    bytes: int = 10 << 20
    flip: bool = False

    @classmethod
    def parse(cls, wish: Mapping[str, Any]) -> Fault:
        """From `{"fault": name, ...}`; raises Refusal(400)."""
        if wish.get("fault") not in list(FaultName):
            raise Refusal(400, f"`fault` is none of {', '.join(FaultName)}")
        kinds: dict[str, type | tuple[type, ...]] = {
            "path": str,
            "seconds": (int, float),
            "rate": int,
            "bytes": int,
            "flip": bool,
        }
        chosen = {}
        for name, kind in kinds.items():
            if name not in wish:
                continue
            if not isinstance(wish[name], kind):
                raise Refusal(400, f"`{name}` has the wrong type")
            chosen[name] = wish[name]
        return cls(FaultName(wish["fault"]), **chosen)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Faults:
    """The faults of one agent; `on_change` is called after each change, and `wait` wakes."""

    __slots__ = ("_active", "_changed", "_on_change")

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._active: dict[FaultName, Fault] = {}
        self._changed = trio.Event()
        self._on_change = on_change

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._active.values())

    def __bool__(self) -> bool:
        return bool(self._active)

    def get(self, name: FaultName) -> Fault | None:
        return self._active.get(name)

    def set(self, fault: Fault | FaultName) -> None:
        fault = Fault(fault) if isinstance(fault, FaultName) else fault
        self._active[fault.name] = fault
        self._wake()

    def clear(self, name: FaultName | None = None) -> None:
        """Ends that fault, or all of them."""
        if name is None:
            self._active.clear()
        else:
            self._active.pop(name, None)
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        self._on_change()

    async def wait(self, name: FaultName, *, present: bool) -> None:
        while (name in self._active) is not present:
            await self._changed.wait()


async def delay(faults: Faults, path: str, connection: Connection) -> bool:
    """What happens before an answer: waiting. False means that the connection just closes."""
    slow = faults.get(FaultName.SLOW)
    if slow and path.startswith(slow.path):
        await trio.sleep(1.0 if slow.seconds is None else slow.seconds)
    hung = faults.get(FaultName.HUNG)
    if hung and path.startswith(hung.path) and not await _hang(faults, connection):
        return False
    flapping = faults.get(FaultName.FLAPPING)
    return not (flapping and int(time.monotonic() / (flapping.seconds or 3.0)) % 2)


async def _hang(faults: Faults, connection: Connection) -> bool:
    """Says nothing until the fault is cleared; False where the client lost patience first."""
    patient = True

    async def watch_client() -> None:
        nonlocal patient
        try:
            await connection.receive()
        except OSError:
            pass
        patient = False
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_client)
        await faults.wait(FaultName.HUNG, present=False)
        nursery.cancel_scope.cancel()
    return patient


async def damage(faults: Faults, path: str, connection: Connection, response: Response) -> Response | None:
    """The response as it should go out; None where the damage was written here and the connection is to close."""
    for fault in faults:
        if not path.startswith(fault.path):
            continue
        match fault.name:
            case FaultName.GARBAGE:
                return Response(response.status, os.urandom(200) + b'{"state":')
            case FaultName.HUGE:
                return Response(response.status, b'{"state": "' + b"x" * fault.bytes + b'"}')
            case FaultName.WRONG_TYPES:
                return Response(response.status, _wrong_types(response.body))
            case FaultName.DEEP:
                return Response(response.status, b'{"state":' + b"[" * 30_000 + b"]" * 30_000 + b"}")
            case FaultName.NOT_A_NUMBER:
                return Response(response.status, _NUMBER.sub(b":NaN", response.body))
            case FaultName.ABSURD:
                return Response(response.status, _NUMBER.sub(b":1" + b"0" * 40, response.body))
            case FaultName.NOT_HTTP:
                await connection.send(b"SSH-2.0-OpenSSH_9.6\r\n" + os.urandom(64))
                return None
            case FaultName.HALF_ANSWER:
                whole = response.head(keep_alive=True) + response.body
                await connection.send(whole[: -(len(response.body) // 2 or 8)])
                return None
            case FaultName.WRONG_LENGTH:
                short = Response(response.status, response.body[:-3])
                await connection.send(short.head(keep_alive=True) + response.body)
                return None
            case FaultName.DRIPPING:
                await _drip(connection, response, 0.2 if fault.seconds is None else fault.seconds)
                return None
            case _:
                continue
    return response


async def _drip(connection: Connection, response: Response, seconds: float) -> None:
    for byte in response.head(keep_alive=True) + response.body:
        await connection.send(bytes((byte,)))
        await trio.sleep(seconds)


def _wrong_types(body: bytes) -> bytes:
    """Every value replaced by one of another type."""
    try:
        value = orjson.loads(body)
    except ValueError:
        return b"[7]"
    if not isinstance(value, dict):
        return b"7"
    return orjson.dumps({name: 7 if isinstance(item, str | bool) else "seven" for name, item in value.items()})
