"""The driver for the agents inside the containers."""

from zlh.drivers.agent.answers import parse_players, parse_readiness, parse_refusal, parse_update
from zlh.drivers.agent.backups import parse_backups
from zlh.drivers.agent.client import AgentClient
from zlh.drivers.agent.console import ConsoleStream
from zlh.drivers.agent.wire import Answer

__all__ = [
    "AgentClient",
    "Answer",
    "ConsoleStream",
    "parse_backups",
    "parse_players",
    "parse_readiness",
    "parse_refusal",
    "parse_update",
]
