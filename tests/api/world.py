"""The real application over the real store, with a fleet in memory; `tests/api/conftest.py` offers it as `world`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from json import dumps as dump
from pathlib import Path
from typing import Any

import orjson
import trio
from quart_trio import QuartTrio

import actors
from tests.api.fleet import FakeFleet
from tests.edge.far import FakeFleet as Publications
from tests.edge.far import MemoryClaims, MemoryTarget, NoNumbers, address_entries
from zlh.accounts import AccessTable, Accounts, Overseer, Passwords, Rules, TokenRules, open_accounts
from zlh.api import Origins, Services, create_app
from zlh.billing import Machine, Selling, open_billing
from zlh.containers.rollouts import Rollouts
from zlh.drivers.stripe import StripeDriver
from zlh.edge import Outlets
from zlh.edge.asked import Asked
from zlh.edge.book import Book
from zlh.edge.documents import Documents
from zlh.edge.ledger import Ledger
from zlh.edge.prometheus import Exporters
from zlh.edge.sync import Sync
from zlh.edge.traefik import Routing, document, routes
from zlh.ide import ForwardedPorts, Names
from zlh.model.accounts import Account, Role
from zlh.model.catalog import Catalog, Game, Runtime, Variant
from zlh.model.containers import ContainerRequest, ContainerType, Resources, Software
from zlh.model.games import GameFacts, Games
from zlh.schedules import ScheduleBook
from zlh.settings import load_plans
from zlh.simulators.stripe import KEY, SimulatedStripe
from zlh.store import Database, Vault

PLANS = load_plans(Path(__file__).parents[2] / "config" / "plans.toml")
PASSWORD = "correct horse"
WEBHOOK_SECRETS = ("whsec_new", "whsec_old")
TRAEFIK_TOKEN, PROMETHEUS_TOKEN = "a token of Traefik's", "a token of Prometheus'"
CATALOG = Catalog(games=(Game("minecraft", (Variant("paper", ("1.21.1",)),)),), runtimes=(Runtime("node", ("22",)),))
MINECRAFT = GameFacts("minecraft", "tcp", (25565,), {"any": "x"}, world="world")
GAMES = Games({"minecraft": MINECRAFT, "generic": MINECRAFT})
PAPER = ContainerRequest(
    ContainerType.GAME, "lobby", Software("minecraft", "1.21.1", "paper", "world"), Resources(2048, 2, 10), (25565,)
)
NODE = ContainerRequest(ContainerType.DEV, "workshop", Software("node", "22"), Resources(2048, 2, 10))
GOOD_INSTANCE = {"ctype": "game", "game": "minecraft", "variant": "paper", "version": "1.21.1", "memoryMiB": 1024}


@dataclass
class Answer:
    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.raw)


class Idle(actors.Actor):
    async def handle(self, message: Any) -> Any:
        return message


@dataclass
class World:
    """`target` is the one of the edge, named "far"; `published` is what is to be there."""

    app: QuartTrio
    services: Services
    fleet: FakeFleet
    access: AccessTable
    accounts: Accounts
    checks: dict[str, str | None] = field(default_factory=lambda: {"database": None})
    target: MemoryTarget = field(default_factory=MemoryTarget)
    published: Publications = field(default_factory=Publications)

    async def call(
        self,
        method: str,
        path: str,
        token: str | None = None,
        json: Any = None,
        raw: bytes | None = None,
        **headers: str,
    ) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        data = dump(json).encode() if json is not None else raw
        response = await self.app.test_client().open(path, method=method, headers=sent, data=data)
        return Answer(response.status_code, response.headers, await response.get_data(as_text=False))

    async def account(
        self, name: str, role: Role = Role.CUSTOMER, plan: str | None = "starter"
    ) -> tuple[Account, str]:
        """A signed-in account: (account, access token)."""
        await self.accounts.create(
            email=f"{name}@example.com", username=name, password=PASSWORD, role=role, plan=plan
        )
        signed_in = await self.services.people.sign_in.login(identifier=name, password=PASSWORD)
        return signed_in.account, signed_in.token

    async def suspend(self, account: Account) -> None:
        await self.services.people.oversight.suspend(Overseer(Role.ADMIN), account.id)


@asynccontextmanager
async def open_world(
    postgres_url: str,
    *,
    origins: tuple[str, ...] = ("https://portal.example",),
    zone: str = "",
    stripe: SimulatedStripe | None = None,
    **rules: Any,
) -> AsyncIterator[World]:
    """Without `stripe` nothing is sold. Its webhooks do not come by themselves."""
    vault = Vault([Vault.new_key()])
    database = Database(postgres_url, pool_size=4, vault=vault)
    people = await open_accounts(database, vault, Passwords.cheap(), Rules(**rules), TokenRules("test", 600))
    access, accounts = people.access, people.accounts
    fleet = FakeFleet(access, time.time)
    checks: dict[str, str | None] = {"database": None}

    async def readiness() -> dict[str, str | None]:
        return checks

    target, published = MemoryTarget(), Publications()
    book = Book(published, NoNumbers())
    far = Sync("far", target, address_entries, book, Ledger(MemoryClaims()), beat_seconds=300.0)
    routing = Routing(GAMES, "", "http://127.0.0.1:8080", ("websecure",))
    traefik = Asked(
        "traefik",
        book,
        partial(routes, routing=routing),
        partial(document, routing=routing),
        poll_seconds=5.0,
        settle_seconds=0.5,
    )
    edge = Outlets(book, [far])
    selling = selling_at(stripe) if stripe is not None else None
    billing = open_billing(
        database,
        PLANS,
        lambda: [Machine.of(cell) for cell in fleet.projection.cells()],
        selling,
        told=people.access.account_changed,
        note=people.audit.note,
        mail=False,
        portal_url="https://portal.example",
    )
    documents = Documents(book, traefik, TRAEFIK_TOKEN, Exporters(9100, 18888, "/metrics"), PROMETHEUS_TOKEN)
    tree = actors.supervisor("root", [actors.actor("idle", Idle), edge.spec()])
    async with actors.open_system(tree) as system, trio.open_nursery() as nursery:
        services = Services(
            people=people,
            fleet=fleet,
            rollouts=Rollouts(database, fleet, time.time),
            catalog=lambda: CATALOG,
            games=GAMES,
            plans=PLANS,
            database=database,
            schedules=ScheduleBook(database, PLANS),
            tree=system,
            readiness=readiness,
            statistics=lambda: {"connections": 3, "refusals": {"too_large": 2}},
            origins=Origins(origins),
            version="1.2.3",
            started_at=time.time(),
            url=lambda: "https://api.example",
            ports=ForwardedPorts(
                database, reserved=frozenset((8443, 18888)), exists=lambda vmid: access.owner_of(vmid) is not None
            ),
            names=Names(zone),
            edge=edge,
            documents=documents,
            billing=billing,
        )
        nursery.start_soon(access.run)
        nursery.start_soon(people.audit.run)
        yield World(create_app(services), services, fleet, access, accounts, checks, target, published)
        nursery.cancel_scope.cancel()
    if selling is not None:
        await selling.stripe.aclose()
    await database.aclose()


def selling_at(stripe: SimulatedStripe) -> Selling:
    """The Portal's pages are told apart by their paths."""
    portal = "https://portal.example"
    driver = StripeDriver(stripe.url, KEY, "zlh", seconds=5)
    return Selling(driver, WEBHOOK_SECRETS, "zlh", f"{portal}/paid", f"{portal}/not", f"{portal}/billing")
