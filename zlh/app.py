"""The composition root: joins the parts, and runs them in one supervision tree."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import trio

import actors
from actors import Context
from zlh.accounts import AccountServices, ConsoleGuestbook, TransferLog
from zlh.api import Reads, Services, create_app
from zlh.api.origins import Origins
from zlh.api.readiness import Readiness
from zlh.billing import BillingServices
from zlh.billing_parts import billing_services
from zlh.containers import Fleet, ResumableUploads
from zlh.containers.idle import IdleWatch
from zlh.containers.rollouts import Rollouts
from zlh.drivers.catalog import CatalogSource
from zlh.edge import Outlets
from zlh.edge.documents import Documents
from zlh.edge_parts import open_edge
from zlh.gateway import Gateway, Limits, serve, serve_app
from zlh.gateway.limits import ConsoleLimits
from zlh.ide import ForwardedPorts
from zlh.mail import Postman
from zlh.model.games import Games
from zlh.model.plans import Plan
from zlh.model.transfers import Depot
from zlh.parts import (
    check_address,
    fleet_options,
    open_database,
    open_house,
    open_mail,
    open_people,
    open_ports,
    open_proxmox,
    open_vault,
    version,
)
from zlh.schedules import ScheduleBook, Scheduler, StoreLedger, Worker
from zlh.settings import Settings, load_games
from zlh.store import Database, StoreUnavailable, upkeep
from zlh.wire.browsers import safety_fields

log = logging.getLogger("zlh")

UPKEEP_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class App:
    """The running product. `url` is where it listens."""

    url: str
    fleet: Fleet
    people: AccountServices
    system: actors.System


@asynccontextmanager
async def open_app(settings: Settings, plans: Mapping[str, Plan], config_dir: Path) -> AsyncIterator[App]:
    """Runs the whole product for as long as the block lasts, then drains and stops it in order.

    `config_dir` holds games.toml and catalog.json. Raises SettingsError for what is missing and for an address that
    cannot be listened on, and StoreUnavailable.
    """
    check_address(settings)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings))
        proxmox = open_proxmox(settings)
        stack.push_async_callback(proxmox.aclose)
        people = await open_people(settings, database, open_vault(settings))
        catalog = CatalogSource(
            settings.catalog.url or None,
            config_dir / "catalog.json",
            Path(settings.database.data_dir) / "catalog.json",
        )
        catalog.load()
        games = load_games(config_dir / "games.toml")
        ports = open_ports(settings, database, people)

        def owner_changed(vmid: int, owner_id: int | None) -> None:
            people.access.owner_changed(vmid, owner_id)
            if owner_id is None:
                ports.forget(vmid)

        fleet = Fleet(
            db=database,
            proxmox=proxmox,
            games=games,
            plans=dict(plans),
            options=fleet_options(settings),
            now=time.time,
            owner_changed=owner_changed,
            suspended=people.access.account_suspended,
        )
        people.access.on_suspension(fleet.standing_changed)
        edge, documents = open_edge(settings, stack, database, fleet, games, ports, people.audit.note)
        fleet.publish_through(edge)
        sockets = stack.enter_context(tempfile.TemporaryDirectory(prefix="zlh-"))
        plant = _Plant(
            settings,
            Path(sockets) / "api.sock",
            database,
            people,
            catalog,
            games,
            fleet,
            ports,
            edge,
            documents,
            billing_services(settings, stack, database, people, fleet, plans),
            dict(plans),
        )
        await people.load()
        system = await stack.enter_async_context(actors.open_system(plant.tree()))
        yield App(url=plant.url, fleet=fleet, people=people, system=system)


class _Plant:
    """The parts, and the tree that they run in."""

    def __init__(
        self,
        settings: Settings,
        socket: Path,
        database: Database,
        people: AccountServices,
        catalog: CatalogSource,
        games: Games,
        fleet: Fleet,
        ports: ForwardedPorts,
        edge: Outlets,
        documents: Documents,
        billing: BillingServices,
        plans: Mapping[str, Plan],
    ) -> None:
        self._settings = settings
        self._socket = str(socket)
        self._database = database
        self._people = people
        self._catalog = catalog
        self._games = games
        self._fleet = fleet
        self._uploads = ResumableUploads(database, fleet.call)
        self._ports = ports
        self._edge = edge
        self._documents = documents
        self._billing = billing
        self._house = open_house(settings, database, people, fleet, ports)
        self._plans = plans
        self._idle = IdleWatch(database, fleet, people.audit.note, time.time)
        self._rollouts = Rollouts(database, fleet, time.time)
        self._origins = Origins(settings.server.allowed_origins)
        self._postman = Postman(database, open_mail(settings), send_seconds=settings.mail.smtp_seconds)
        self._gateway: Gateway | None = None
        self._served: Services | None = None
        self._port = settings.server.port

    def tree(self) -> actors.ChildSpec:
        """Starts in this order, stops in reverse: the gateway drains before anything that it needs goes."""
        return actors.supervisor(
            "root",
            [
                actors.supervisor(
                    "accounts",
                    [actors.task(name, _forever(run)) for name, run in self._people.tasks().items()],
                ),
                actors.task("catalog", self._refresh_catalog),
                actors.task("mail", self._send_mail),
                actors.task("upkeep", self._forget_old),
                actors.task("ports", _forever(self._ports.follow)),
                *self._fleet.specs(),
                self._edge.spec(),
                self._billing.spec(),
                actors.task("schedules", self._run_schedules),
                actors.task("uploads", _forever(self._uploads.run)),
                actors.task("idle", self._idle.run),
                actors.task("rollouts", self._rollouts.run),
                actors.task("api", self._serve_api, graceful=True, shutdown=self._settings.server.shutdown_seconds),
                actors.task(
                    "gateway",
                    self._serve_gateway,
                    graceful=True,
                    shutdown=self._settings.server.shutdown_seconds + 5.0,
                ),
            ],
        )

    @property
    def url(self) -> str:
        if self._settings.server.public_url:
            return self._settings.server.public_url.rstrip("/")
        host = self._settings.server.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    async def _refresh_catalog(self, ctx: Context) -> None:
        ctx.started()
        await self._catalog.keep_fresh(self._settings.catalog.refresh_seconds)

    async def _send_mail(self, ctx: Context) -> None:
        ctx.started()
        await self._postman.run(ctx.annotate)

    async def _forget_old(self, ctx: Context) -> None:
        ctx.started()
        while True:
            try:
                now = datetime.now(UTC)
                kept = timedelta(days=self._settings.accounts.audit_days)
                forgotten = await self._database.run(upkeep.forget_old, now, kept)
                forgotten += await self._people.audit.forget(now - kept)
                ctx.annotate(forgotten=forgotten, at=time.time())
            except StoreUnavailable as error:
                log.warning("upkeep waits for the database: %s", error)
            await trio.sleep(UPKEEP_SECONDS)

    async def _run_schedules(self, ctx: Context) -> None:
        ledger = StoreLedger(self._database)
        worker = Worker(
            self._fleet, ledger, check=self._people.access.check_unattended, account=self._people.accounts.account
        )
        ctx.started()
        await Scheduler(ledger, worker).run(ctx.annotate)

    async def _serve_api(self, ctx: Context) -> None:
        app = create_app(self._services(ctx.system))
        await trio.Path(self._socket).unlink(missing_ok=True)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_app, app, self._socket, ctx.stop_requested))
            ctx.started()

    async def _serve_gateway(self, ctx: Context) -> None:
        server = self._settings.server
        viewer_buffer = self._settings.console.viewer_buffer_kib * 1024
        async with trio.open_nursery() as nursery:
            gateway: Gateway = await nursery.start(
                partial(
                    serve,
                    server.host,
                    self._port,
                    upstream_socket=self._socket,
                    doorkeeper=self._people.access,
                    consoles=self._fleet,
                    trusted_proxies=server.trusted_proxies,
                    origin_allowed=self._origins.allow,
                    reads=Reads(self._services(ctx.system)),
                    guestbook=ConsoleGuestbook(self._people.audit, self._people.access),
                    depot=Depot(self._fleet, self._uploads, TransferLog(self._people.audit, self._people.access)),
                    house=self._house,
                    safety=safety_fields(server.public_url),
                    limits=Limits(console=ConsoleLimits(buffer=viewer_buffer)),
                )
            )
            self._gateway = gateway
            # A restarted gateway listens where the clients look for it.
            self._port = gateway.address.port
            ctx.annotate(listening=f"{gateway.address.host}:{gateway.address.port}")
            ctx.started()
            await ctx.stop_requested()
            await gateway.drain(server.shutdown_seconds)
            nursery.cancel_scope.cancel()

    def _services(self, system: actors.System) -> Services:
        """The same for the API and for what the gateway answers itself: their counts are one."""
        if self._served is None:
            self._served = self._make_services(system)
        return self._served

    def _make_services(self, system: actors.System) -> Services:
        return Services(
            people=self._people,
            fleet=self._fleet,
            rollouts=self._rollouts,
            catalog=lambda: self._catalog.catalog,
            plans=self._plans,
            games=self._games,
            database=self._database,
            schedules=ScheduleBook(self._database, self._plans),
            tree=system,
            readiness=Readiness(self._database, self._proxmox_problem),
            statistics=self._statistics,
            origins=self._origins,
            version=version(),
            started_at=time.time(),
            url=lambda: self.url,
            ports=self._ports,
            names=self._house.names,
            edge=self._edge,
            documents=self._documents,
            billing=self._billing,
        )

    def _proxmox_problem(self) -> str | None:
        watcher = self._fleet.watcher
        if watcher.error is not None:
            return "does not answer"
        return "not asked yet" if watcher.answered_at is None else None

    def _statistics(self) -> Mapping[str, float | Mapping[str, float]]:
        """What the gateway counts; nothing while it is not up."""
        return dataclasses.asdict(self._gateway.stats()) if self._gateway is not None else {}


def _forever(run: Callable[[], Awaitable[None]]) -> Callable[[Context], Awaitable[None]]:
    """A task that is up at once."""

    async def supervised(ctx: Context) -> None:
        ctx.started()
        await run()

    return supervised
