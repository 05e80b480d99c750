"""Bugs to plant in an API that is about to start; only tests do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zlh.drivers.agent import AgentClient

FILE = "ZLH_TEST_TRIPPING_ADDRESS"
"""Names a file; while it holds an agent's address, reading that agent's status meets a bug."""


def trip_over_one_agent() -> None:
    inner = AgentClient.status
    path = Path(os.environ[FILE])

    async def status(self: AgentClient) -> Any:
        answer = await inner(self)
        if _trips(path, repr(self)):
            raise ZeroDivisionError("a bug planted in the parser of this agent's status")
        return answer

    AgentClient.status = status  # type: ignore[method-assign]


def _trips(path: Path, client: str) -> bool:
    return path.exists() and path.read_text().strip() in client
