"""Places at which the API can be made to die: around every journal write and every call that changes things outside.

Only tests import this; the product knows nothing of it. `arm` wraps the methods before anything runs. Each place has
a name such as "do clone: proxmox.clone, before"; the first passage of the chosen one ends the process with SIGKILL.
Calls to targets of the edge and to Stripe, and what is recorded of them, belong to no step and are numbered:
"technitium.add 2, before".
"""

from __future__ import annotations

import functools
import json
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from zlh.containers import fleet, runner
from zlh.containers.journal import Journal
from zlh.drivers.agent import AgentClient
from zlh.drivers.json_http import JsonHttp
from zlh.drivers.proxmox import ProxmoxDriver
from zlh.drivers.stripe import StripeDriver
from zlh.drivers.velocity import VelocityBridge
from zlh.edge.ledger import StoredClaims
from zlh.store import Database

JOURNAL = (
    "admitted",
    "begin",
    "done",
    "failed",
    "finish",
    "give_up",
    "noted",
    "remember",
    "started",
    "undoing",
    "undone",
    "want",
)
ACCOUNTS = "TEST_ACCOUNT_POINTS"
"""Where the environment has this, what concerns accounts is written to the database at places that have a name."""

ACCOUNT_WRITES = {
    "zlh.accounts.sign_in": "sign_in",
    "zlh.accounts.credentials": "credentials",
    "zlh.accounts.shares": "shares",
    "zlh.store.audit": "audit",
}
BILLING = "TEST_BILLING_POINTS"
"""The same for what concerns money; calls to Stripe are places always."""

BILLING_WRITES = {
    "Carrier._customer.<locals>.write": "customer.add",
    "Carrier._finish.<locals>.write": "order.finish",
    "Desk._open_page.<locals>.begin": "order.begin",
    "Desk._order.<locals>.begin": "order.begin",
    "Looks._write": "look.write",
    "done": "inbox.done",
    "receive": "inbox.receive",
    "take": "inbox.take",
}
BILLING_MODULES = {"zlh.billing.carrier", "zlh.billing.desk", "zlh.billing.looks", "zlh.store.billing_events"}

UPKEEP = ("forget",)
"""What may be written at any time, whatever is asked."""

PROXMOX = ("clone", "configure", "resize", "start", "shutdown", "stop", "destroy")
AGENT = ("configure", "start", "stop", "restore")


class Points:
    """Each SIGUSR1 begins anew with what the file `plan` says by then, {"target", "record"}: every place passed for
    the first time is written to `record`, one a line, and at `target` the process dies. Until the first signal
    whatever has to be there before the journey can be made in peace."""

    def __init__(self, plan: Path) -> None:
        self._plan = plan
        self._record: int | None = None
        self._target: str | None = None
        self._armed = False
        self._passed: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._doing = ""

    def arm(self) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: self._begin())
        for name in JOURNAL:
            self._wrap(Journal, name, lambda method, arguments: f"journal.{method}")
        for name in PROXMOX:
            self._wrap(ProxmoxDriver, name, lambda method, arguments: f"proxmox.{method}")
        for name in AGENT:
            self._wrap(AgentClient, name, lambda method, arguments: f"agent.{method}")
        self._wrap(fleet.Fleet, "create", lambda method, arguments: "fleet.create")
        if ACCOUNTS in os.environ:
            self._wrap(Database, "run", _account_write)
        if BILLING in os.environ:
            self._wrap(Database, "run", _billing_write, numbered=True)
        self._wrap(StripeDriver, "_ask", _stripe_call, numbered=True)
        self._wrap(JsonHttp, "call", lambda _, arguments: f"technitium.{_last(arguments[2])}", numbered=True)
        self._wrap(VelocityBridge, "_call", lambda _, arguments: f"velocity.{_last(arguments[2])}", numbered=True)
        for name in ("claim", "release"):
            self._wrap(StoredClaims, name, lambda method, _: f"ledger.{method}", numbered=True)
        self._follow(runner.Runner, "do")
        self._follow(runner.Runner, "undo")

    def _begin(self) -> None:
        plan = json.loads(self._plan.read_text())
        record = plan["record"]
        self._record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if record else None
        self._target = plan["target"]
        self._passed.clear()
        self._counts.clear()
        self._armed = True

    def _follow(self, cls: type, name: str) -> None:
        """Names the step that the calls inside belong to."""
        inner = getattr(cls, name)

        @functools.wraps(inner)
        async def followed(instance: Any, step: str) -> Any:
            before, self._doing = self._doing, f"{name} {step}: "
            try:
                return await inner(instance, step)
            finally:
                self._doing = before

        setattr(cls, name, followed)

    def _wrap(
        self, cls: type, name: str, label: Callable[[str, tuple[Any, ...]], str | None], *, numbered: bool = False
    ) -> None:
        """`label` gives None for a call that is no place."""
        inner: Callable[..., Awaitable[Any]] = getattr(cls, name)

        @functools.wraps(inner)
        async def wrapped(*arguments: Any, **keywords: Any) -> Any:
            told = label(name, arguments)
            if told is None:
                return await inner(*arguments, **keywords)
            place = self._numbered(told) if numbered else self._doing + told
            self._pass(f"{place}, before")
            result = await inner(*arguments, **keywords)
            self._pass(f"{place}, after")
            return result

        setattr(cls, name, wrapped)

    def _numbered(self, told: str) -> str:
        self._counts[told] += 1
        return f"{told} {self._counts[told]}"

    def _pass(self, place: str) -> None:
        if not self._armed or place in self._passed:
            return
        self._passed.add(place)
        if self._record is not None:
            os.write(self._record, place.encode() + b"\n")
        if place == self._target:
            os.kill(os.getpid(), signal.SIGKILL)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _account_write(_method: str, arguments: tuple[Any, ...]) -> str | None:
    """Named after the function that is to run in the transaction, the second argument of `Database.run`."""
    work = arguments[1]
    module = ACCOUNT_WRITES.get(work.__module__)
    if module is None or work.__name__ in UPKEEP:
        return None
    return f"{module}.{work.__qualname__.removesuffix('.<locals>.write')}"


def _billing_write(_method: str, arguments: tuple[Any, ...]) -> str | None:
    work = arguments[1]
    work = work.func if isinstance(work, functools.partial) else work
    if work.__module__ not in BILLING_MODULES:
        return None
    return BILLING_WRITES.get(work.__qualname__)


def _stripe_call(_method: str, arguments: tuple[Any, ...]) -> str:
    """Named after the library's method whose coroutine is to be awaited: CustomerService.create_async."""
    service, _, method = arguments[1].__qualname__.rpartition(".")
    return f"stripe.{service.removesuffix('Service').lower()}.{method.removesuffix('_async')}"
