"""The demo's accounts, made in the database before the API starts, as `zlh user create` does."""

from __future__ import annotations

from dataclasses import dataclass

from zlh.demo.place import Place
from zlh.model.accounts import Account, Role
from zlh.parts import open_database, open_people, open_vault
from zlh.settings import Settings
from zlh.store import accounts as rows

FRIEND_EMAIL = "friend@zlh.example"


@dataclass(frozen=True)
class Person:
    """Someone who can sign in; `plan` is an entry of config/plans.toml, None for who has to buy one first."""

    key: str
    username: str
    email: str
    password: str
    role: Role
    plan: str | None


def people_of(place: Place, *, fleet: bool) -> tuple[Person, ...]:
    """Those who can sign in; with `fleet` also the customer whose containers it is."""
    kept = place.secrets
    people = (
        Person("customer", "customer", "customer@zlh.example", kept.customer_password, Role.CUSTOMER, "standard"),
        Person("operator", "operator", "operator@zlh.example", kept.operator_password, Role.OPERATOR, None),
        Person("friend", "friend", FRIEND_EMAIL, kept.friend_password, Role.CUSTOMER, "starter"),
        Person("newcomer", "newcomer", "newcomer@zlh.example", kept.newcomer_password, Role.CUSTOMER, None),
        Person("fleet", "fleet", "fleet@zlh.example", kept.fleet_password, Role.CUSTOMER, "unlimited"),
    )
    return people if fleet else people[:-1]


async def ensure_people(settings: Settings, place: Place, *, fleet: bool) -> dict[str, Account]:
    """The accounts by key; those that are missing are made."""
    found: dict[str, Account] = {}
    async with open_database(settings) as database:
        service = (await open_people(settings, database, open_vault(settings))).accounts
        for person in people_of(place, fleet=fleet):
            known = await database.run(rows.by_identifier, person.username)
            found[person.key] = known or await service.create(
                email=person.email,
                username=person.username,
                password=person.password,
                role=person.role,
                plan=person.plan,
            )
    return found
