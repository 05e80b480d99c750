"""The door of all transfers: who may move what, and the record of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from zlh.gateway.doors import Arrival, Tools
from zlh.gateway.refusals import Refusal
from zlh.gateway.transfers.addresses import Address, Kind, address_of, meant
from zlh.gateway.transfers.agent import Agent
from zlh.gateway.transfers.downloads import download
from zlh.gateway.transfers.forms import upload_form
from zlh.gateway.transfers.resumable import TUS, Resumable
from zlh.gateway.transfers.room import Rooms
from zlh.gateway.transfers.transfer import Transfer
from zlh.gateway.transfers.uploads import CONTENT, put
from zlh.model.access import Permission, Scope
from zlh.model.agent_calls import AgentPlace, Feature
from zlh.model.console import Doorkeeper, Grant
from zlh.model.errors import InvalidError, ProblemError
from zlh.model.transfers import Depot
from zlh.wire.http import RequestHead

_LOOKING = frozenset((b"GET", b"HEAD"))
_BODYLESS = _LOOKING | {b"DELETE", b"OPTIONS"}
_FETCHED = (Kind.CONTENT, Kind.BACKUP)
"""What a suspended customer may still have."""


class TransfersDoor:
    """Uploads and downloads. The depot's book hears of what was uploaded and of backups that were downloaded."""

    def __init__(self, tools: Tools, doorkeeper: Doorkeeper, depot: Depot) -> None:
        self._tools = tools
        self._doorkeeper = doorkeeper
        self._agents = depot.agents
        self._book = depot.book
        self._rooms = Rooms()
        self._resumable = Resumable(depot.uploads, self._rooms)
        self._under_way: Counter[int] = Counter()

    @property
    def under_way(self) -> int:
        """How many transfers there are at the moment."""
        return self._under_way.total()

    def wants(self, head: RequestHead) -> bool:
        return address_of(head) is not None

    async def enter(self, arrival: Arrival) -> bool:
        head, address = meant(arrival.head), address_of(arrival.head)
        assert address is not None
        arrival = replace(arrival, head=head)
        _refuse_odd_bodies(head)
        grant = self._admit(arrival, address)
        transfer = Transfer(arrival, self._tools, address, grant)
        try:
            with self._counted(address.vmid):
                keep = await transfer.run(self._serve)
        except Refusal as refusal:
            if address.kind in (Kind.UPLOADS, Kind.UPLOAD):
                refusal.fields += TUS
            self._note(transfer, refusal.status)
            raise
        except BaseException:
            self._note(transfer, None)
            raise
        finally:
            grant.release()
        self._note(transfer, transfer.status)
        return keep

    def _admit(self, arrival: Arrival, address: Address) -> Grant:
        of_backups = address.kind is Kind.BACKUP
        looks = arrival.head.method in _LOOKING
        try:
            return self._doorkeeper.enter(
                _token(arrival.head),
                address.vmid,
                Permission.BACKUPS if of_backups else Permission.FILES,
                Scope.BACKUPS if of_backups else Scope.FILES,
                changes=not looks,
                address=arrival.address,
                lasting=self._tools.limits.transfer_seconds,
                suspended=looks and address.kind in _FETCHED,
            )
        except ProblemError as problem:
            raise Refusal.of(problem) from None

    @contextmanager
    def _counted(self, vmid: int) -> Iterator[None]:
        if self._under_way[vmid] >= self._tools.limits.transfers:
            raise Refusal(
                429, "too many transfers with this server at once", code="too_many_transfers", retry_after=2
            )
        self._under_way[vmid] += 1
        try:
            yield
        finally:
            self._under_way[vmid] -= 1
            if not self._under_way[vmid]:
                del self._under_way[vmid]

    async def _serve(self, transfer: Transfer) -> bool:
        try:
            return await self._move(transfer)
        except ProblemError as problem:
            raise Refusal.of(problem) from None

    async def _move(self, transfer: Transfer) -> bool:
        address, method = transfer.address, transfer.head.method
        if self._agents.container(address.vmid).ctype is not address.ctype:
            raise Refusal(404, f"there is no {address.ctype.value} server {address.vmid}")
        if method == b"OPTIONS":
            return await self._resumable.tell(transfer)
        place = self._agents.reach(address.vmid, _feature(address.kind), changes=method not in _LOOKING)
        agent = Agent(self._tools, self._agents, transfer.arrival.client, address.vmid, transfer.arrival.request_id)
        match address.kind:
            case Kind.CONTENT if method == b"PUT":
                return await self._put(transfer, agent, place)
            case Kind.CONTENT:
                return await self._get(transfer, agent, place)
            case Kind.BACKUP:
                return await self._get_backup(transfer, agent, place)
            case Kind.FORM:
                return await self._form(transfer, agent, place)
            case Kind.UPLOADS:
                return await self._resumable.begin(transfer, place)
            case Kind.UPLOAD if method == b"PATCH":
                return await self._resumable.append(transfer, agent, place)
            case Kind.UPLOAD if method == b"DELETE":
                return await self._resumable.drop(transfer)
            case Kind.UPLOAD:
                return await self._resumable.offset(transfer)

    async def _get(self, transfer: Transfer, agent: Agent, place: AgentPlace) -> bool:
        path = transfer.path()
        if not path:
            raise InvalidError.of(("path", "names the server's directory, not a file"))
        name = path.rpartition("/")[2]
        return await download(transfer, agent, place, CONTENT, {"path": path}, name, Feature.FILES)

    async def _get_backup(self, transfer: Transfer, agent: Agent, place: AgentPlace) -> bool:
        backup = transfer.address.name
        if transfer.head.method == b"GET":
            transfer.subject = backup
        name = f"backup-{backup}.tar.gz"
        return await download(transfer, agent, place, f"/backups/{backup}/download", {}, name, Feature.BACKUPS)

    async def _put(self, transfer: Transfer, agent: Agent, place: AgentPlace) -> bool:
        path = transfer.path()
        transfer.subject = path
        room = self._rooms.enter(transfer.vmid, place, transfer.head.length)
        try:
            return await put(transfer, agent, self._agents, place, path, room)
        finally:
            room.leave()

    async def _form(self, transfer: Transfer, agent: Agent, place: AgentPlace) -> bool:
        folder = transfer.path()
        room = self._rooms.enter(transfer.vmid, place, transfer.head.length)
        try:
            return await upload_form(transfer, agent, place, folder, room)
        finally:
            room.leave()

    def _note(self, transfer: Transfer, status: int | None) -> None:
        """`status` None: it broke off."""
        if self._book is None:
            return
        principal, visit = transfer.grant.principal, transfer.visit
        for path, size in transfer.written:
            self._book.uploaded(principal, visit, path, size, 201)
        if not transfer.subject:
            return
        note = self._book.downloaded if transfer.address.kind is Kind.BACKUP else self._book.uploaded
        note(principal, visit, transfer.subject, transfer.moved, status)


def _refuse_odd_bodies(head: RequestHead) -> None:
    """Raises Refusal 400, 415."""
    if head.upgrade:
        raise Refusal(400, "no websocket is opened here")
    if head.method in _BODYLESS and head.length != 0:
        raise Refusal(400, "no body is expected here")
    if (head.get(b"content-encoding") or b"identity").lower() != b"identity":
        # It would be kept as it is, and nobody would say so to whoever reads it.
        raise Refusal(415, "send the bytes of the file themselves", code="unsupported_media_type")
    if head.get(b"content-range") is not None:
        # RFC 9110, 14.4: a part would take the place of the whole file.
        raise Refusal(400, "a part of a file cannot be put; upload it in pieces instead", code="invalid")


def _feature(kind: Kind) -> Feature:
    match kind:
        case Kind.BACKUP:
            return Feature.BACKUPS
        case Kind.UPLOADS | Kind.UPLOAD:
            return Feature.RESUMABLE_UPLOADS
        case _:
            return Feature.FILES


def _token(head: RequestHead) -> str:
    scheme, _, token = (head.get(b"authorization") or b"").decode("latin1").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Refusal(401, "sign in first", code="unauthenticated")
    return token.strip()
