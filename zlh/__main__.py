"""The program: `zlh <command>`; each command says with --help what it does. They are in `zlh.commands`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from zlh import logs
from zlh.commands import ADDED
from zlh.model.errors import ProblemError
from zlh.parts import version
from zlh.settings import SettingsError, load_settings
from zlh.store import DataDirectoryInUse, EmbeddedError, StoreUnavailable, VaultError

CONFIG = Path(__file__).resolve().parent.parent / "config" / "zlh.toml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 failed, 2 wrong arguments or settings."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["demo"]:
        from zlh.demo import main as demo

        return demo(given[1:])
    options = _parser().parse_args(given)
    try:
        settings = load_settings(options.config, os.environ)
        logs.configure(settings.log.level, as_json=settings.log.json)
        status: int = trio.run(options.command, options, settings)
        return status
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except (StoreUnavailable, DataDirectoryInUse, EmbeddedError, VaultError, ProblemError, OSError) as error:
        print(f"zlh: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zlh", description="The control plane of ZLH.")
    parser.add_argument("--version", action="version", version=f"zlh {version()}")
    parser.add_argument("--config", type=Path, default=CONFIG, help="settings file (default: %(default)s)")
    commands = parser.add_subparsers(required=True, metavar="command")
    for add in ADDED:
        add(commands)
    commands.add_parser("demo", help="the whole product on this machine; zlh demo --help lists its options")
    return parser


if __name__ == "__main__":
    sys.exit(main())
