"""`zlh user`: accounts, without the API; one that runs hears of what changes."""

from __future__ import annotations

import argparse
import os
import secrets

from zlh.commands.parsing import Commands, plans_file
from zlh.model.accounts import Role
from zlh.model.errors import InvalidError
from zlh.parts import create_user
from zlh.settings import Settings, load_plans


def add(commands: Commands) -> None:
    user = commands.add_parser("user", help="accounts").add_subparsers(required=True, metavar="command")
    create = user.add_parser("create", help="make an account; prints a password unless ZLH_PASSWORD holds one")
    create.add_argument("email")
    create.add_argument("username")
    create.add_argument("--role", choices=[role.value for role in Role], default=Role.CUSTOMER.value)
    create.add_argument("--plan", help="an entry of plans.toml")
    create.set_defaults(command=_create)


async def _create(options: argparse.Namespace, settings: Settings) -> int:
    if options.plan is not None and options.plan not in load_plans(plans_file(options)):
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
