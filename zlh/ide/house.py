"""Everything that the gateway needs to let people through to customers' programs, and to start what is stopped."""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Protocol

import orjson

from zlh.accounts import AccessTable, AuditTrail, note_visit
from zlh.ide.condition import Condition, condition
from zlh.ide.gatekeeper import Admitted, Gatekeeper
from zlh.ide.places import Names, Place
from zlh.ide.presence import Presence, Visit
from zlh.ide.reach import Reach
from zlh.model.access import Permission
from zlh.model.accounts import Principal
from zlh.model.activity import Activity
from zlh.model.agent_calls import AgentAnswer, AgentCall, Feature
from zlh.model.audit import Ending, Outcome
from zlh.model.console import Visit as Caller
from zlh.model.errors import AbsentError, ForbiddenError, ProblemError, UnavailableError
from zlh.model.games import CODE_SERVER_PORT
from zlh.model.operations import Operation
from zlh.model.whereabouts import Whereabouts

log = logging.getLogger(__name__)


class IdeState(StrEnum):
    """What the agent says of the IDE. UNKNOWN: it does not answer, or does not know."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    ERROR = "error"
    UNKNOWN = "unknown"


class Workshops(Protocol):
    """What is needed of the containers. The two calls raise ProblemErrors."""

    def whereabouts(self, vmid: int) -> Whereabouts:
        """From memory. Raises AbsentError."""

    async def call(self, vmid: int, call: AgentCall) -> AgentAnswer: ...

    async def start_host(self, vmid: int, *, actor_id: int | None = None) -> Operation: ...


class House:
    """`secure`: browsers come by https. `portal_url` is where people sign in, empty where nobody said."""

    def __init__(
        self,
        *,
        names: Names,
        gatekeeper: Gatekeeper,
        reach: Reach,
        workshops: Workshops,
        activity: Activity,
        trail: AuditTrail,
        access: AccessTable,
        secure: bool,
        portal_url: str = "",
    ) -> None:
        self.names = names
        self.gatekeeper = gatekeeper
        self.presence = Presence(self.condition, gatekeeper.welcome)
        self.activity = activity
        self.secure = secure
        self.portal_url = portal_url
        self._reach = reach
        self._workshops = workshops
        self._trail = trail
        self._access = access

    def whereabouts(self, vmid: int) -> Whereabouts | None:
        """None for a container that does not exist; so does `condition`."""
        try:
            return self._workshops.whereabouts(vmid)
        except AbsentError:
            return None

    def condition(self, vmid: int) -> Condition | None:
        found = self.whereabouts(vmid)
        return condition(found) if found is not None else None

    def address(self, place: Place) -> tuple[str, int]:
        """Where the program listens that is meant. Raises UnavailableError where nothing may be sent there: what is
        not a container's own address is never asked, also where its row says so."""
        found = self._workshops.whereabouts(place.vmid)
        address = found.row.address
        port = CODE_SERVER_PORT if place.port is None else place.port
        problem = self._reach.problem(address, port, met=found.met)
        if problem is None and place.port == CODE_SERVER_PORT:
            problem = "the IDE's port is not forwarded"
        if address is None or problem is not None:
            log.warning("nothing is sent to container %d: %s", place.vmid, problem)
            raise UnavailableError("the container cannot be reached")
        return address, port

    def join(self, place: Place, admitted: Admitted) -> Visit:
        """The visit of one who was admitted. Raises ForbiddenError for a suspended account."""
        principal = admitted.principal
        grant = self.gatekeeper.stay(place, principal) if principal is not None else None
        return self.presence.join(place, principal, grant)

    async def ide_state(self, vmid: int) -> IdeState:
        """As the agent says."""
        try:
            answer = await self._workshops.call(vmid, _ask("GET", "", changes=False, seconds=3.0))
            return IdeState(orjson.loads(answer.body)["state"])
        except (ProblemError, ValueError, KeyError, TypeError):
            return IdeState.UNKNOWN

    async def start(self, principal: Principal, caller: Caller) -> None:
        """Switches on what is off: the container, which takes the permission for that, else the IDE in it. Raises
        ProblemErrors."""
        vmid = caller.vmid
        if self.condition(vmid) is Condition.OFF:
            if not self.gatekeeper.may_power(principal, vmid):
                raise _not_permitted("you may not start this container", Permission.POWER)
            await self._workshops.start_host(vmid, actor_id=principal.actor_id)
            self._note("host.start", principal, caller)
        elif self.condition(vmid) is Condition.OPEN:
            # A port may be open to those who have no business with the IDE.
            if not self.gatekeeper.may_into_ide(principal, vmid):
                raise _not_permitted("you may not start this IDE", Permission.IDE)
            state = await self.ide_state(vmid)
            if state in (IdeState.STARTING, IdeState.RUNNING):
                return
            verb = "restart" if state is IdeState.ERROR else "start"
            await self._workshops.call(vmid, _ask("POST", f"/{verb}"))
            self._note(f"code_server.{verb}", principal, caller)

    def _note(self, action: str, principal: Principal, caller: Caller) -> None:
        note_visit(self._trail, self._access, action, principal, caller, Ending(outcome=Outcome.DONE))


def _not_permitted(words: str, permission: Permission) -> ForbiddenError:
    return ForbiddenError(words, code="not_permitted", details={"permission": permission.value})


def _ask(method: str, verb: str, *, changes: bool = True, seconds: float = 10.0) -> AgentCall:
    path = f"/dev/code-server{verb}"
    return AgentCall(Feature.CODE_SERVER, method, path, changes=changes, seconds=seconds)
