"""The containers' face to the rest: client functions that hide messages, and reads that wait for nobody."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
import trio

import actors
from actors import (
    ActorCrashed,
    ActorQuarantined,
    ActorStopped,
    AskTimeout,
    ChildSpec,
    MailboxFull,
)
from zlh.containers.activity import Uses
from zlh.containers.actor import GamePower, HostPower, PassOn, Rename, Retrieve, Teardown, Upgrade, refuse_power
from zlh.containers.backups import BackupCommands
from zlh.containers.calls import PLAYERS, read_players, refuse_lacking, refuse_unreachable
from zlh.containers.cell import Cell
from zlh.containers.console import ConsolePlace
from zlh.containers.crew import Crew
from zlh.containers.followers import Followers
from zlh.containers.instances import instance_row
from zlh.containers.options import Options
from zlh.containers.orphans import Orphan, find_orphans
from zlh.containers.projection import Changes, Projection
from zlh.containers.publication import publication
from zlh.containers.recorder import Recorder
from zlh.containers.registrar import Registrar
from zlh.containers.steps import Site, step_names
from zlh.containers.turnstile import Turnstile
from zlh.containers.watcher import Watcher
from zlh.drivers.errors import DriverError, NotFound
from zlh.drivers.proxmox import ProxmoxDriver
from zlh.model.access import Sight
from zlh.model.accounts import Account
from zlh.model.activity import Use
from zlh.model.agent_calls import AgentAnswer, AgentCall, AgentPlace, Feature
from zlh.model.console import Viewer
from zlh.model.containers import Container, ContainerRequest, Resources
from zlh.model.edge import Edge, Publication, Reachability
from zlh.model.errors import AbsentError, DeadlineError, PaymentRequiredError, ProblemError, UnavailableError
from zlh.model.games import Games
from zlh.model.observed import Liveness, Players
from zlh.model.operations import Operation, OperationKind
from zlh.model.plans import Plan, plan_of
from zlh.model.servers import Server
from zlh.model.whereabouts import Whereabouts
from zlh.store import Database, StoreUnavailable, operations, reservations

COMMAND_SECONDS = 15.0
"""How long a client function waits for its container's mailbox; the agent has ten of them."""

PROXMOX_SECONDS = 15.0


class Fleet:
    """Joins the parts that look after containers, and speaks for them.

    `plans` by name; `owner_changed(vmid, owner_id)` is called as containers come and go (None), before anyone can ask
    for them. `suspended` says of an account whether it is, None where nobody knows it: containers follow their
    owners, and look again when `standing_changed` is called. `now` gives Unix seconds. All refusals are
    ProblemErrors.
    """

    def __init__(
        self,
        *,
        db: Database,
        proxmox: ProxmoxDriver,
        games: Games,
        plans: dict[str, Plan],
        options: Options,
        now: Callable[[], float],
        owner_changed: Callable[[int, int | None], None],
        suspended: Callable[[int], bool | None],
    ) -> None:
        self._db = db
        self._proxmox = proxmox
        self._plans = plans
        self._options = options
        self._now = now
        self.projection = Projection(now)
        self.activity = Uses(now)
        self._followers = Followers()
        self.backups = BackupCommands(self._ask, self.call, self._plan)
        self._crew = Crew(
            db=db,
            now=now,
            concurrent_operations=options.concurrent_operations,
            followers=self._followers,
            look_at_hosts=lambda: self.watcher.look(),
            looked_at_host=lambda cell, running: self.watcher.looked(cell, running),
            suspended=suspended,
        )
        self.watcher = Watcher(
            proxmox,
            self.projection,
            options.watch_seconds,
            now,
            self._host_moved,
            lag=options.list_lag_seconds,
        )
        self.recorder = Recorder(db, self.projection, now)
        self._crew.site = Site(
            proxmox=proxmox,
            options=options,
            games=games,
            clones=Turnstile(1, self._crew.nudge),
            mutations=Turnstile(options.mutations_per_node, self._crew.nudge),
            cluster=lambda: self.watcher.cluster,
            pending_memory=self._pending_memory,
        )
        self._registrar = Registrar(
            db=db,
            crew=self._crew,
            projection=self.projection,
            options=options,
            now=now,
            owner_changed=owner_changed,
            agent_moved=self._agent_moved,
            activity=self.activity,
        )

    def publish_through(self, edge: Edge) -> None:
        """Operations wait for `edge` from now on. To be called before the tree starts."""
        self._crew.site.edge = edge
        edge.on_progress(self._crew.nudge)

    # The supervision tree

    def specs(self) -> list[ChildSpec]:
        """The fleet's part of the tree, in the order of its start."""
        return [
            actors.supervisor("proxmox", [actors.task("watcher", self.watcher.run)]),
            actors.task("recorder", self.recorder.run),
            actors.task("alarm", self._crew.alarm.run),
            actors.dynamic("fleet", concurrent_starts=64),
            actors.task("registrar", self._registrar.run),
        ]

    def _host_moved(self, cell: Cell) -> None:
        cell.poll_asked.set()
        self._crew.nudge(cell.vmid)

    def standing_changed(self, account_id: int) -> None:
        """The account was suspended, or is no longer: its containers look for themselves."""
        for cell in self.projection.cells(account_id):
            self._crew.nudge(cell.vmid)

    def _agent_moved(self, cell: Cell) -> None:
        self.recorder.mark(cell)
        desired = cell.row.desired
        if cell.operation is not None or desired.suspended or desired.game_held:
            self._crew.nudge(cell.vmid)

    def _pending_memory(self, node: str) -> int:
        """MiB promised on `node` to containers that are being made."""
        return sum(
            cell.row.resources.memory_mib
            for cell in self.projection.cells()
            if cell.row.node == node and not cell.row.provisioned
        )

    # Reads, from memory

    def servers_json(self, sight: Sight) -> bytes:
        """The body of GET /api/servers."""
        return self.projection.servers_json(sight)

    def server(self, vmid: int) -> Server:
        return self.projection.cell(vmid).server(self._now())

    def container(self, vmid: int) -> Container:
        return self.projection.cell(vmid).row

    def containers(self, sight: Sight) -> list[Container]:
        """One's own by vmid, and after them what others share."""
        own = sorted((cell.row for cell in self.projection.cells(sight.owner_id)), key=lambda row: row.vmid)
        shared = (self.projection.get(vmid) for vmid in sorted(sight.shared))
        return own + [cell.row for cell in shared if cell is not None]

    def whereabouts(self, vmid: int) -> Whereabouts:
        """What must be known before somebody is let through to the container. Raises AbsentError."""
        cell = self.projection.cell(vmid)
        doing = cell.operation.kind if cell.operation is not None else None
        agent = cell.observed.agent
        met = agent.liveness is Liveness.ONLINE and agent.met_at == cell.row.address
        return Whereabouts(cell.row, cell.observed.host.power, doing, met)

    def publications(self) -> list[Publication]:
        return [publication(cell) for cell in self.projection.cells()]

    def publication(self, vmid: int) -> Publication | None:
        """What the outside is to learn of the container, None where there is none."""
        cell = self.projection.get(vmid)
        return publication(cell) if cell is not None else None

    def set_reachability(self, vmid: int, reachability: Reachability | None) -> None:
        """No-op where the container is gone."""
        cell = self.projection.get(vmid)
        if cell is not None:
            cell.set_reachability(reachability)

    def owner_of(self, vmid: int) -> int:
        return self.projection.cell(vmid).row.owner_id

    def instance_row(self, vmid: int) -> dict[str, Any]:
        return instance_row(self.projection.cell(vmid))

    def changes(self, sight: Sight) -> AbstractAsyncContextManager[Changes]:
        return self.projection.changes(sight)

    def attach(self, vmid: int, viewer: Viewer, *, after: int | None = None) -> ConsolePlace:
        """See `zlh.model.console.Consoles`."""
        console = self._registrar.consoles.get(vmid)
        if console is None:
            raise AbsentError(f"there is no container {vmid}")
        return console.attach(viewer, after=after)

    # Commands

    async def create(
        self,
        account: Account,
        request: ContainerRequest,
        *,
        actor_id: int | None = None,
        also: Callable[[sa.Connection, Container, Operation], None] | None = None,
    ) -> tuple[Container, Operation]:
        """Records the container and the operation that makes it, within the owner's plan, and in the same transaction
        whatever `also` writes.

        Raises PaymentRequiredError, PlanLimitError, UnavailableError (no vmid or address is free).
        """
        plan = self._plan(account)
        reserve = partial(
            reservations.reserve,
            owner_id=account.id,
            request=request,
            plan=plan,
            vmids=self._options.vmids[request.ctype],
            exclude=self._crew.taken(),
            address_pool=self._options.address_pool or None,
            zone=self._options.zone,
            steps=step_names(OperationKind.PROVISION),
            agent_token=secrets.token_urlsafe(32),
            actor_id=actor_id,
            now=datetime.fromtimestamp(self._now(), UTC),
        )

        def record(connection: sa.Connection) -> tuple[Container, Operation]:
            row, operation = reserve(connection)
            if also is not None:
                also(connection, row, operation)
            return row, operation

        # A client that goes away must not leave a row that nobody knows of.
        with trio.CancelScope(shield=True):
            try:
                row, operation = await self._db.run(record)
            except StoreUnavailable:
                self._crew.count_anew()
                raise
            self._registrar.add(row, operation)
            self._crew.arrived(row, operation)
        return row, operation

    async def teardown(self, vmid: int, *, force: bool = False, actor_id: int | None = None) -> Operation:
        """Removes the container; the operation in flight for it, when that removes it already."""
        return await self._operate(vmid, Teardown(force, actor_id))

    async def start_host(self, vmid: int, *, actor_id: int | None = None) -> Operation:
        return await self._operate(vmid, HostPower(OperationKind.START_HOST, actor_id))

    async def stop_host(self, vmid: int, *, actor_id: int | None = None) -> Operation:
        return await self._operate(vmid, HostPower(OperationKind.STOP_HOST, actor_id))

    async def restart_host(self, vmid: int, *, actor_id: int | None = None) -> Operation:
        return await self._operate(vmid, HostPower(OperationKind.RESTART_HOST, actor_id))

    async def retrieve(self, vmid: int, *, seconds: float, actor_id: int | None = None) -> Operation | None:
        """Has a suspended container on for so long, without its game, so that its data can be fetched: the operation
        that starts it, None where it is on. Raises ConflictError "not_suspended", "retrieval_spent"."""
        operation = await self._ask(vmid, Retrieve(seconds, actor_id))
        assert operation is None or isinstance(operation, Operation)
        return operation

    async def upgrade(
        self, account: Account, vmid: int, resources: Resources, *, actor_id: int | None = None
    ) -> Operation:
        """Other sizes for a container of `account`, within its plan."""
        return await self._operate(vmid, Upgrade(resources, self._plan(account), actor_id))

    async def rename(self, vmid: int, label: str | None) -> Container:
        """Another name for people (see `chosen_name`), None for the default one. Raises InvalidError "name_reserved",
        ConflictError "name_taken"."""
        row = await self._ask(vmid, Rename(label))
        assert isinstance(row, Container)
        return row

    async def start_game(self, vmid: int) -> None:
        await self._game(vmid, "start")

    async def stop_game(self, vmid: int) -> None:
        await self._game(vmid, "stop")

    async def restart_game(self, vmid: int) -> None:
        await self._game(vmid, "restart")

    async def kill_game(self, vmid: int) -> None:
        """Overtakes whatever else the container is busy with."""
        await self._game(vmid, "kill", lane="urgent")

    async def call(self, vmid: int, call: AgentCall, *, use: bool = True) -> AgentAnswer:
        """Passes a call on to the container's agent. Raises ConflictError where the container is not in a state to be
        asked, AgentUnsupportedError, AgentProblemError (the agent's own refusal), AgentUnreachableError. `use`:
        that somebody wants it, so that the container is in use."""
        self._refuse_call(vmid, call.feature, changes=call.changes)
        if use:
            self.activity.touched(vmid, Use.CALL)
        message = PassOn(call)
        try:
            reply = await self._ask(vmid, message, lane="shared", within=call.seconds + COMMAND_SECONDS)
        finally:
            message.scope.cancel()
        assert isinstance(reply, AgentAnswer)
        return reply

    async def players(self, vmid: int, *, fresh: bool = False) -> tuple[Players, float]:
        """Who plays, and when that was seen (Unix seconds): as last polled, or asked of the agent now where nobody
        did yet, or `fresh`. Raises as `call`."""
        self._refuse_call(vmid, Feature.PLAYERS, changes=False)
        agent = self.projection.cell(vmid).observed.agent
        if agent.players is not None and agent.players_at is not None and not fresh:
            return agent.players, agent.players_at
        return read_players(await self.call(vmid, PLAYERS)), self._now()

    def reach(self, vmid: int, feature: Feature, *, changes: bool) -> AgentPlace:
        """Where the agent is, for bytes that do not go through a mailbox. Never waits; raises as `call`."""
        self._refuse_call(vmid, feature, changes=changes)
        self.activity.touched(vmid, Use.CALL)
        cell = self.projection.cell(vmid)
        assert cell.row.address is not None
        status = cell.observed.agent.status
        return AgentPlace(
            address=cell.row.address,
            port=self._options.agent_port,
            token=cell.row.agent_token,
            disk_bytes=cell.row.resources.disk_gib << 30,
            used_bytes=None if status is None or status.disk_mb is None else status.disk_mb << 20,
        )

    def learn_lacking(self, vmid: int, feature: Feature) -> None:
        """The agent of this container was found to be too old for that."""
        self.projection.cell(vmid).learn_lacking(feature)

    def _refuse_call(self, vmid: int, feature: Feature, *, changes: bool) -> None:
        cell = self.projection.cell(vmid)
        refuse_unreachable(cell, changes=changes)
        refuse_lacking(cell, feature)

    async def _game(self, vmid: int, verb: str, lane: str = "exclusive") -> None:
        # Refused here first, so that a container with an operation in flight says so without a queue.
        refuse_power(self.projection.cell(vmid), verb)
        await self._ask(vmid, GamePower(verb), lane=lane)

    async def _operate(self, vmid: int, message: object) -> Operation:
        reply = await self._ask(vmid, message)
        assert isinstance(reply, Operation)
        return reply

    async def _ask(
        self, vmid: int, message: object, *, lane: str = "exclusive", within: float = COMMAND_SECONDS
    ) -> object:
        """Asks the container's mailbox; what went wrong on the way is told in words for the caller."""
        self.projection.cell(vmid)
        mailbox = self._crew.mailbox(vmid)
        if mailbox is None:
            raise UnavailableError("the container's actor is being started", retry_after=1.0)
        try:
            reply = await mailbox.ask(message, within=within, lane=lane)
        except MailboxFull:
            raise UnavailableError("too many commands wait for this container", retry_after=2.0) from None
        except ActorQuarantined:
            raise UnavailableError(
                "this container's actor is quarantined; an operator was told", retry_after=60.0
            ) from None
        except ActorStopped as error:
            raise UnavailableError("this container's actor is not running", retry_after=2.0) from error
        except ActorCrashed as error:
            raise ProblemError("the command met a bug; it was recorded", code="internal") from error
        except AskTimeout as error:
            raise DeadlineError(
                f"the container did not answer within {within:g} s", details={"mayTakeEffect": error.began}
            ) from None
        if isinstance(reply, ProblemError):
            raise reply
        return reply

    def _plan(self, account: Account) -> Plan:
        plan = plan_of(account, self._plans)
        if plan is None:
            raise PaymentRequiredError("there is no active plan for this account")
        return plan

    # Operations

    async def operation(self, operation_id: str) -> Operation:
        operation = await self._db.run(operations.get, operation_id)
        if operation is None:
            raise AbsentError("there is no such operation")
        return operation

    async def operations(
        self, sight: Sight, *, vmid: int | None = None, before: str | None = None, limit: int = 50
    ) -> list[Operation]:
        """The newest first."""
        return await self._db.run(
            operations.page,
            owner_id=sight.owner_id,
            shared=list(sight.shared),
            vmid=vmid,
            before=before,
            limit=limit,
        )

    @asynccontextmanager
    async def follow(self, operation_id: str) -> AsyncIterator[AsyncIterator[Operation]]:
        """Yields the present state, then every later one (coalesced), until a final one."""
        known = await self.operation(operation_id)
        with self._followers.follow(known) as follower:
            # Read again: it may have moved between the read and the joining.
            follower.publish(await self.operation(operation_id))
            yield follower

    async def wait(self, operation_id: str, *, within: float) -> Operation:
        """The operation once it ended, or as it is after `within` seconds."""
        operation = await self.operation(operation_id)
        with trio.move_on_after(within):
            async with self.follow(operation_id) as states:
                async for state in states:
                    operation = state
        return operation

    # Orphans

    async def orphans(self) -> list[dict[str, Any]]:
        """What exists in Proxmox or in the database without its counterpart. Raises UnavailableError."""
        return [orphan.as_dict() for orphan in await self._orphans()]

    async def sweep(self, *, dry_run: bool = True, actor_id: int | None = None) -> list[dict[str, Any]]:
        """Removes the orphans that may be removed; each is told with `done`, an outcome in words."""
        swept = []
        for orphan in await self._orphans():
            outcome = "would be swept" if orphan.sweep else "left to a person"
            if orphan.sweep and not dry_run:
                outcome = await self._sweep(orphan, actor_id)
            swept.append({**orphan.as_dict(), "outcome": outcome})
        return swept

    async def _orphans(self) -> list[Orphan]:
        try:
            with trio.fail_after(PROXMOX_SECONDS):
                cluster = await self._proxmox.resources()
        except (DriverError, trio.TooSlowError) as error:
            raise UnavailableError(f"Proxmox could not be asked: {error}", retry_after=10.0) from error
        return find_orphans(cluster, self.projection.cells(), self._options)

    async def _sweep(self, orphan: Orphan, actor_id: int | None) -> str:
        try:
            if orphan.where == "database":
                if await self._exists(orphan):
                    return "not swept: Proxmox has it, though it does not list it"
                operation = await self.teardown(orphan.vmid, force=True, actor_id=actor_id)
                return f"operation {operation.id}"
            with trio.fail_after(PROXMOX_SECONDS):
                return await self._destroy(orphan)
        except (ProblemError, DriverError, trio.TooSlowError) as error:
            return f"not swept: {error}"

    async def _exists(self, orphan: Orphan) -> bool:
        """A list may be half of the truth: nobody's container is torn down before its node was asked."""
        if not orphan.node:
            return False
        try:
            with trio.fail_after(PROXMOX_SECONDS):
                config = await self._proxmox.config(orphan.node, orphan.vmid)
        except NotFound:
            return False
        return config.hostname == orphan.name

    async def _destroy(self, orphan: Orphan) -> str:
        """A row may have come since the listing: look again right before."""
        if orphan.vmid in self.projection:
            return "not swept: it has a row now"
        try:
            status = await self._proxmox.status(orphan.node, orphan.vmid)
        except NotFound:
            return "gone"
        if status.running:
            return f"being stopped: {await self._proxmox.stop(orphan.node, orphan.vmid)}; sweep again to destroy it"
        return f"being destroyed: {await self._proxmox.destroy(orphan.node, orphan.vmid, purge=True)}"

    def statistics(self) -> dict[str, int]:
        """For /metrics: how many containers, operations running and waiting, console viewers."""
        return {
            "containers": len(self.projection),
            "operations_running": len(self._crew.admission.inside),
            "operations_waiting": self._crew.admission.waiting,
            "console_viewers": sum(console.viewers for console in self._registrar.consoles.values()),
        }
