"""How a call comes into the audit record: written before its handler runs, completed after it.

What is left out, and why:

- Who has no valid credential is nobody: a 401 before the handler is not recorded, and of public routes neither a body
  that cannot be read nor what the rate limits refuse (429). Otherwise anybody could fill the table.
- A public call is begun before its handler only as often as an address may try anything; beyond that it is recorded
  when it is over, and only where it was not refused by a limit.
- A session goes on every few minutes for as long as somebody has a window open. That says nothing; its refusals do.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from quart import Response
from werkzeug.exceptions import HTTPException

from zlh.accounts import credential_of
from zlh.api.call import Call
from zlh.model.accounts import Principal
from zlh.model.audit import Act, Ending, Facts, Outcome
from zlh.model.errors import ProblemError
from zlh.store import StoreUnavailable

log = logging.getLogger(__name__)

REFUSALS_ONLY = frozenset({"session.refresh"})
TOO_MANY = 429
PATIENCE_SECONDS = 1.0
"""For the database, where a call can go on without it."""


class Recording:
    """One call's place in the record. `public`: nobody is signed in. `own`: what it concerns is the caller's, where
    neither its address nor its handler says whose. `through_outages`: it needs no database, so it does not wait for
    one either."""

    def __init__(
        self,
        call: Call,
        action: str,
        parameters: dict[str, Any],
        *,
        public: bool,
        own: bool,
        through_outages: bool,
    ) -> None:
        self._call = call
        self._trail = call.services.people.audit
        self._action = action
        self._parameters = parameters
        self._public = public
        self._own = own
        self._through_outages = through_outages

    def refused(self, error: Exception) -> None:
        """The call ended before its handler. Nothing was done, so nobody waits for this to be written."""
        if not self._public and self._call.principal_or_none is not None:
            self._trail.note(self._act(), self._ending(_status(error), error))

    async def carry_out(self, work: Callable[[], Awaitable[Response]]) -> Response:
        """Raises StoreUnavailable, and does nothing, where the call cannot be recorded and may not go on without."""
        act = self._act()
        begun = await self._begin(act)
        try:
            response = await work()
        except Exception as error:
            await self._end(act, begun, self._ending(_status(error), error))
            raise
        if "Idempotency-Replayed" in response.headers:
            self._call.audit.details["replayed"] = True
        await self._end(act, begun, self._ending(response.status_code))
        return response

    async def _begin(self, act: Act) -> int | None:
        """The row, or None where it is written when the call is over."""
        if self._action in REFUSALS_ONLY or (self._public and not self._trail.may_begin(self._call.address)):
            return None
        if not self._through_outages:
            return await self._trail.begin(act)
        try:
            with trio.fail_after(PATIENCE_SECONDS):
                return await self._trail.begin(act)
        except (StoreUnavailable, trio.TooSlowError) as error:
            log.warning(
                "%s goes on; it is written into the audit record later: %s", self._action, error or "too slow"
            )
            return None

    async def _end(self, act: Act, begun: int | None, ending: Ending) -> None:
        if begun is not None:
            if self._public and ending.outcome is Outcome.DONE:
                self._trail.was_welcome(act.address)
            await self._trail.complete(begun, ending)
            return
        limited = self._public and ending.status == TOO_MANY
        quiet = self._action in REFUSALS_ONLY and ending.outcome is Outcome.DONE
        if not limited and not quiet:
            self._trail.note(act, ending)

    def _act(self) -> Act:
        call, principal = self._call, self._call.principal_or_none
        return Act(
            at=self._trail.now(),
            action=self._action,
            credential="public" if principal is None else credential_of(principal),
            actor_id=None if principal is None else principal.actor_id,
            subject_id=None if principal is None else self._subject(principal),
            vmid=self._parameters.get("vmid"),
            address=call.address,
            agent=call.agent,
            request_id=call.id,
        )

    def _subject(self, principal: Principal) -> int | None:
        """The container's owner; the account in the address; the caller. Whoever cannot even see a container does
        nothing to its owner. What only the handler learns, it notes."""
        access, vmid = self._call.services.access, self._parameters.get("vmid")
        if vmid is not None:
            return access.owner_of(vmid) if access.may_see(principal, vmid) else principal.account_id
        account_id: int | None = self._parameters.get("account_id")
        # What operators do may be somebody else's; their handlers say so.
        return principal.account_id if account_id is None and not principal.role.sees_all else account_id

    def _ending(self, status: int, error: Exception | None = None) -> Ending:
        noted = self._call.audit
        subject_id = noted.subject_id
        if subject_id is None and isinstance(error, ProblemError):
            subject_id = error.subject_id
        if subject_id is None and self._own:
            subject_id = self._call.principal.account_id
        return Ending(
            outcome=Outcome.of_status(status),
            status=status,
            actor_id=noted.actor_id,
            subject_id=subject_id,
            vmid=noted.vmid,
            details=Facts(noted.details),
        )


def _status(error: Exception) -> int:
    if isinstance(error, ProblemError):
        return error.status
    return error.code or 500 if isinstance(error, HTTPException) else 500
