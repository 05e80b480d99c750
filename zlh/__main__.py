"""The commands: `zlh serve`, `zlh migrate`, `zlh user create`, `zlh demo`; each says with --help what it does."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from zlh import logs
from zlh.app import open_app
from zlh.collector import set_aside_what_stays
from zlh.model.accounts import Role
from zlh.model.errors import InvalidError, ProblemError
from zlh.parts import create_user, open_database, version
from zlh.settings import Settings, SettingsError, load_plans, load_settings
from zlh.store import DataDirectoryInUse, EmbeddedError, StoreUnavailable, VaultError

CONFIG = Path(__file__).resolve().parent.parent / "config" / "zlh.toml"

log = logging.getLogger("zlh")


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


def allow_many_files() -> None:
    """Each agent is a connection and each client two: the 1,024 files that services get by default are soon spent."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zlh", description="The control plane of ZLH.")
    parser.add_argument("--version", action="version", version=f"zlh {version()}")
    parser.add_argument("--config", type=Path, default=CONFIG, help="settings file (default: %(default)s)")
    commands = parser.add_subparsers(required=True, metavar="command")

    serve = commands.add_parser("serve", help="run the API until SIGTERM or Ctrl-C")
    serve.set_defaults(command=_serve)

    migrate = commands.add_parser("migrate", help="bring the database to the newest revision")
    migrate.set_defaults(command=_migrate)

    user = commands.add_parser("user", help="accounts").add_subparsers(required=True, metavar="command")
    create = user.add_parser("create", help="make an account; prints a password unless ZLH_PASSWORD holds one")
    create.add_argument("email")
    create.add_argument("username")
    create.add_argument("--role", choices=[role.value for role in Role], default=Role.CUSTOMER.value)
    create.add_argument("--plan", help="an entry of plans.toml")
    create.set_defaults(command=_create_user)

    commands.add_parser("demo", help="the whole product on this machine; zlh demo --help lists its options")
    return parser


async def _serve(options: argparse.Namespace, settings: Settings) -> int:
    plans = load_plans(_plans(options))
    if settings.accounts.default_plan and settings.accounts.default_plan not in plans:
        raise SettingsError([f"[accounts] default_plan: plans.toml has no plan {settings.accounts.default_plan!r}"])
    allow_many_files()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_app(settings, plans, options.config.parent) as app, trio.open_nursery() as nursery:
            nursery.start_soon(set_aside_what_stays)
            log.info("zlh %s listens on %s", version(), app.url)
            async for number in signals:
                log.info("%s: draining", signal.Signals(number).name)
                break
            nursery.cancel_scope.cancel()
    log.info("stopped")
    return 0


def _plans(options: argparse.Namespace) -> Path:
    path: Path = options.config.parent / "plans.toml"
    return path


async def _migrate(options: argparse.Namespace, settings: Settings) -> int:
    async with open_database(settings):
        print("the database is at the newest revision")
    return 0


async def _create_user(options: argparse.Namespace, settings: Settings) -> int:
    if options.plan is not None and options.plan not in load_plans(_plans(options)):
        raise InvalidError(f"plans.toml has no plan {options.plan!r}")
    given = os.environ.get("ZLH_PASSWORD")
    password = given or secrets.token_urlsafe(15)
    role = Role(options.role)
    account = await create_user(
        settings, email=options.email, username=options.username, password=password, role=role, plan=options.plan
    )
    print(f"account {account.id}: {account.username} <{account.email}>, {role.value}")
    if given is None:
        print(f"password: {password}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
