"""`zlh user`: accounts, without the API; one that runs hears of what changes."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import sqlalchemy as sa

from zlh.accounts import Overseer, Oversight
from zlh.commands.listing import show
from zlh.commands.parsing import Commands, plans_file
from zlh.commands.recording import command_act
from zlh.model.accounts import Account, Role
from zlh.model.audit import Ending, Fact, Outcome
from zlh.model.errors import InvalidError
from zlh.parts import create_user, open_database, open_people, open_vault
from zlh.settings import Settings, load_plans
from zlh.store import audit

ROLES = [role.value for role in Role]
MOST_LISTED = 1_000_000_000
# What is done to one account: with who asks and the account's id.
Change = Callable[[Oversight, Overseer, int], Awaitable[Account]]


def add(commands: Commands) -> None:
    user = commands.add_parser("user", help="accounts").add_subparsers(required=True, metavar="command")
    _add_create(user)
    _add_list(user)
    role = _add_change(user, "role", "give an account another role", _role)
    role.add_argument("role", choices=ROLES)
    _add_change(
        user,
        "reset-password",
        "end all sign-ins; prints a new password unless ZLH_PASSWORD holds one",
        _reset_password,
    )
    _add_change(
        user,
        "reset-second-factor",
        "switch the second factor off for somebody who is locked out, and end all sign-ins",
        _reset_second_factor,
    )
    disable = _add_change(user, "disable", "sign an account out and let it sign in no more", _disable)
    _add_change(user, "enable", "let a disabled account sign in again", _enable)
    suspend = _add_change(
        user, "suspend", "let an account only look and fetch its data, and switch its containers off", _suspend
    )
    _add_change(user, "unsuspend", "end a suspension by an operator; one by billing stays", _unsuspend)
    for removing in (role, disable, suspend):
        removing.add_argument("--force", action="store_true", help="even the last administrator")
    for judging in (disable, suspend):
        judging.add_argument("--reason", default="", help="for the audit record")


def _add_create(user: Commands) -> None:
    create = user.add_parser("create", help="make an account; prints a password unless ZLH_PASSWORD holds one")
    create.add_argument("email")
    create.add_argument("username")
    create.add_argument("--role", choices=ROLES, default=Role.CUSTOMER.value)
    create.add_argument("--plan", help="an entry of plans.toml")
    create.set_defaults(command=_create)


def _add_list(user: Commands) -> None:
    listing = user.add_parser("list", help="the accounts, the newest first")
    listing.add_argument("words", nargs="?", default="", help="part of an e-mail address or name, or an id")
    listing.add_argument("--role", choices=ROLES)
    listing.add_argument("--limit", type=_count, default=None, metavar="N", help="only the newest N")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(command=_list)


def _add_change(
    user: Commands, name: str, help: str, command: Callable[[argparse.Namespace, Settings], Awaitable[int]]
) -> argparse.ArgumentParser:
    parser = user.add_parser(name, help=help)
    parser.add_argument("account", help="an id, an e-mail address or a user name")
    parser.set_defaults(command=command)
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_LISTED):
        raise argparse.ArgumentTypeError(f"a number from 1 on is expected, not {text!r}")
    return int(text)


async def _create(options: argparse.Namespace, settings: Settings) -> int:
    if options.plan is not None and options.plan not in load_plans(plans_file(options)):
        raise InvalidError(f"plans.toml has no plan {options.plan!r}")
    given, password = _password()
    role = Role(options.role)
    account = await create_user(
        settings,
        email=options.email,
        username=options.username,
        password=password,
        role=role,
        plan=options.plan,
        also=_recorded("create", {"role": role.value}),
    )
    print(described(account))
    if not given:
        print(f"password: {password}")
    return 0


async def _list(options: argparse.Namespace, settings: Settings) -> int:
    role = Role(options.role) if options.role else None
    async with _oversight(settings) as oversight:
        found = await oversight.search(words=options.words, role=role, limit=options.limit)
    show(found, as_json=options.json)
    return 0


async def _role(options: argparse.Namespace, settings: Settings) -> int:
    role = Role(options.role)
    return await _change(
        options,
        settings,
        "role",
        lambda oversight, overseer, account_id: oversight.set_role(overseer, account_id, role),
        role=role.value,
    )


async def _disable(options: argparse.Namespace, settings: Settings) -> int:
    return await _change(options, settings, "disable", Oversight.disable, reason=options.reason)


async def _enable(options: argparse.Namespace, settings: Settings) -> int:
    return await _change(options, settings, "enable", Oversight.enable)


async def _suspend(options: argparse.Namespace, settings: Settings) -> int:
    return await _change(options, settings, "suspend", Oversight.suspend, reason=options.reason)


async def _unsuspend(options: argparse.Namespace, settings: Settings) -> int:
    return await _change(options, settings, "unsuspend", Oversight.unsuspend)


async def _reset_second_factor(options: argparse.Namespace, settings: Settings) -> int:
    return await _change(options, settings, "reset_second_factor", Oversight.reset_second_factor)


async def _reset_password(options: argparse.Namespace, settings: Settings) -> int:
    given, password = _password()
    await _change(
        options,
        settings,
        "reset_password",
        lambda oversight, overseer, account_id: oversight.reset_password(overseer, account_id, password),
    )
    if not given:
        print(f"password: {password}")
    return 0


async def _change(options: argparse.Namespace, settings: Settings, verb: str, change: Change, **facts: Fact) -> int:
    """Finds the account, changes it, records that in the same transaction, and tells what it is now."""
    overseer = Overseer(Role.ADMIN, force=vars(options).get("force", False), also=_recorded(verb, facts))
    async with _oversight(settings) as oversight:
        account = await oversight.find(options.account)
        print(described(await change(oversight, overseer, account.id)))
    return 0


def described(account: Account) -> str:
    """One line, such as "account 5: ada <ada@example.com>, operator, disabled"."""
    words = [f"account {account.id}: {account.username} <{account.email}>", account.role.value]
    words += [name for name, since in _states(account) if since is not None]
    return ", ".join(words)


def _states(account: Account) -> list[tuple[str, datetime | None]]:
    return [
        ("suspended by an operator", account.operator_suspended_at),
        ("suspended by billing", account.billing_suspended_at),
        ("disabled", account.disabled_at),
    ]


def _password() -> tuple[bool, str]:
    """Whether it was given, and the password."""
    given = os.environ.get("ZLH_PASSWORD", "")
    return bool(given), given or secrets.token_urlsafe(15)


def _recorded(verb: str, facts: dict[str, Fact]) -> Callable[[sa.Connection, Account], None]:
    """Writes the command into the audit record, with the name of who gave it on this machine."""

    def record(connection: sa.Connection, account: Account) -> None:
        act = command_act("zlh user", f"account.{verb}", subject_id=account.id, facts=facts)
        audit.record(connection, act, Ending(outcome=Outcome.DONE))

    return record


@asynccontextmanager
async def _oversight(settings: Settings) -> AsyncIterator[Oversight]:
    async with open_database(settings, beside=True) as database:
        yield (await open_people(settings, database, open_vault(settings))).oversight
