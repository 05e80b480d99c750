"""`zlh serve` and `zlh migrate`."""

from __future__ import annotations

import argparse
import logging
import resource
import signal

import trio

from zlh.app import open_app
from zlh.collector import set_aside_what_stays
from zlh.commands.parsing import Commands, plans_file
from zlh.parts import open_database, version
from zlh.settings import Settings, SettingsError, load_plans

log = logging.getLogger("zlh")


def add(commands: Commands) -> None:
    commands.add_parser("serve", help="run the API until SIGTERM or Ctrl-C").set_defaults(command=_serve)
    commands.add_parser("migrate", help="bring the database to the newest revision").set_defaults(command=_migrate)


def allow_many_files() -> None:
    """Each agent is a connection and each client two: the 1,024 files that services get by default are soon spent."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve(options: argparse.Namespace, settings: Settings) -> int:
    plans = load_plans(plans_file(options))
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


async def _migrate(options: argparse.Namespace, settings: Settings) -> int:
    async with open_database(settings):
        print("the database is at the newest revision")
    return 0
