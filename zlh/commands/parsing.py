"""What the modules of commands add to."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from zlh.settings import Settings

# What `argparse` gives back for subcommands; the class has no public name.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Add = Callable[[Commands], None]
Command = Callable[[argparse.Namespace, Settings], Awaitable[int]]


def plans_file(options: argparse.Namespace) -> Path:
    """plans.toml is beside the settings."""
    path: Path = options.config.parent / "plans.toml"
    return path
