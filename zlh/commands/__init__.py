"""What `zlh` can be told: each module adds its commands to the parser.

A command is `async (options, settings) -> exit status`; what it raises `zlh.__main__.main` tells in a sentence.
"""

from __future__ import annotations

from zlh.commands import billing, edge, keys, serve, users
from zlh.commands.parsing import Add

ADDED: tuple[Add, ...] = (serve.add, users.add, keys.add, edge.add, billing.add)
"""In the order of --help."""

__all__ = ["ADDED"]
