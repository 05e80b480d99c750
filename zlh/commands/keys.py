"""`zlh keys`: the keys that sign tokens, without the API; one that runs hears of what changes."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import sqlalchemy as sa

from zlh.accounts import SigningKeys, open_keyring
from zlh.commands.parsing import Commands
from zlh.commands.recording import command_act
from zlh.model.audit import Ending, Outcome
from zlh.model.servers import rfc3339_of
from zlh.parts import open_database, open_vault, token_rules
from zlh.settings import Settings
from zlh.store import audit
from zlh.store.keys import SigningKey


def add(commands: Commands) -> None:
    keys = commands.add_parser("keys", help="the keys that sign tokens").add_subparsers(
        required=True, metavar="command"
    )
    keys.add_parser("list", help="every key with its state").set_defaults(command=_list)
    rotate = keys.add_parser("rotate", help="publish the next key now; it signs after signing_key_publish_seconds")
    rotate.add_argument(
        "--now",
        action="store_true",
        help="somebody else may have a key: refuse all that was signed so far, sign with a new key at once",
    )
    rotate.set_defaults(command=_rotate)


async def _list(options: argparse.Namespace, settings: Settings) -> int:
    async with _open_keys(settings) as keys:
        for key, state in await keys.listed():
            times = f"made {rfc3339_of(key.created_at)}  signs from {rfc3339_of(key.signs_at)}"
            withdrawn = f"  withdrawn {rfc3339_of(key.withdrawn_at)}" if key.withdrawn_at else ""
            print(f"{key.kid}  {state.value:<9}  {times}{withdrawn}")
    return 0


async def _rotate(options: argparse.Namespace, settings: Settings) -> int:
    async with _open_keys(settings) as keys:
        key = await (keys.withdraw(_recorded("withdraw")) if options.now else keys.rotate(_recorded("rotate")))
    print(f"{key.kid} signs from {rfc3339_of(key.signs_at)}")
    if options.now:
        print("all that was signed before is refused: clients fetch a new access token with their refresh token")
    return 0


def _recorded(verb: str) -> Callable[[sa.Connection, SigningKey], None]:
    """Writes the command into the audit record, with the name of who gave it on this machine."""

    def record(connection: sa.Connection, key: SigningKey) -> None:
        act = command_act("zlh keys", f"keys.{verb}", facts={"kid": key.kid})
        audit.record(connection, act, Ending(outcome=Outcome.DONE))

    return record


@asynccontextmanager
async def _open_keys(settings: Settings) -> AsyncIterator[SigningKeys]:
    rules = token_rules(settings)
    async with open_database(settings, beside=True) as database:
        vault = open_vault(settings)
        keyring = await open_keyring(database, vault, alive_seconds=rules.alive_seconds)
        yield SigningKeys(database, vault, keyring, rules.keys)
