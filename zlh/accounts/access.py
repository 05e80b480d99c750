"""Who may do what, from memory: accounts, revoked sessions and owners, kept current by those who change them.

Nothing here waits. Every request asks, so a logout or a suspension holds from the moment that it was recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from zlh.accounts.grants import GONE, SIGNED_OUT, SUSPENDED, AccessGrant, Grants
from zlh.accounts.tokens import Tokens
from zlh.model.accounts import Account, Principal, Role
from zlh.model.errors import AbsentError, ForbiddenError, UnauthenticatedError


@dataclass(frozen=True, slots=True)
class Standing:
    role: Role
    suspended: bool


class AccessTable:
    """Answers from memory; implements `zlh.model.console.Doorkeeper`."""

    def __init__(self, tokens: Tokens, *, now: Callable[[], float] = time.time) -> None:
        self._tokens = tokens
        self._now = now
        self._standing: dict[int, Standing] = {}
        self._revoked: dict[str, float] = {}
        self._owners: dict[int, int] = {}
        self._grants = Grants(now)

    def load(self, accounts: Iterable[Account], revoked_sessions: Iterable[str]) -> None:
        """Fills the table at start. Of the revoked sessions only those matter whose tokens may still be alive."""
        for account in accounts:
            self.account_changed(account)
        for session_id in revoked_sessions:
            self.session_revoked(session_id)

    async def run(self) -> None:
        """Ends grants at their token's expiry; runs until cancelled."""
        await self._grants.expire()

    def account_changed(self, account: Account) -> None:
        """A new account, or a new role or suspension. What is open and no longer allowed ends now."""
        self._standing[account.id] = Standing(account.role, account.suspended_at is not None)
        for grant in self._grants.of_account(account.id):
            if account.suspended_at is not None:
                grant.end(*SUSPENDED)
            elif grant.vmid is not None and not self._sees(account.id, account.role, grant.vmid):
                grant.end(*GONE)
            elif grant.vmid is None and grant.principal.role is not account.role:
                # What it was shown depends on the role; it signs on again with the new one.
                grant.end(*SIGNED_OUT)

    def session_revoked(self, session_id: str) -> None:
        """Logout, or a refresh token used twice."""
        now = self._now()
        # Its last token was issued before now, so after one lifetime none is left to refuse. Oldest first: all stay
        # equally long.
        while self._revoked and next(iter(self._revoked.values())) <= now:
            del self._revoked[next(iter(self._revoked))]
        self._revoked.setdefault(session_id, now + self._tokens.lifetime_seconds + 1)
        self._tokens.forget(session_id)
        for grant in self._grants.of_session(session_id):
            grant.end(*SIGNED_OUT)

    def owner_changed(self, vmid: int, owner_id: int | None) -> None:
        """Fed by the fleet; None when the container is gone."""
        if owner_id is None:
            self._owners.pop(vmid, None)
        else:
            self._owners[vmid] = owner_id
        for grant in self._grants.of_container(vmid):
            if not self._sees(grant.principal.account_id, grant.principal.role, vmid):
                grant.end(*GONE)

    def principal(self, token: str) -> Principal:
        """Who holds this access token. Raises UnauthenticatedError. A suspended account is still somebody."""
        claims = self._tokens.verify(token)
        standing = self._standing.get(claims.account_id)
        if standing is None or claims.session_id in self._revoked:
            raise UnauthenticatedError("the sign-in has ended", code="signed_out")
        return Principal(claims.account_id, standing.role, claims.session_id, claims.expires_at)

    def suspended(self, principal: Principal) -> bool:
        return self._standing[principal.account_id].suspended

    def may_see(self, principal: Principal, vmid: int) -> bool:
        """False also for a container that does not exist."""
        return self._sees(principal.account_id, principal.role, vmid)

    def enter_console(self, token: str, vmid: int) -> AccessGrant:
        """Raises UnauthenticatedError, ForbiddenError or AbsentError (does not exist, or is not yours)."""
        principal = self.principal(token)
        if not self.may_see(principal, vmid):
            raise AbsentError("there is no such server")
        return self.stay(principal, vmid)

    def stay(self, principal: Principal, vmid: int | None = None) -> AccessGrant:
        """A grant for a connection that stays open. Raises ForbiddenError for a suspended account."""
        if self.suspended(principal):
            raise ForbiddenError("the account is suspended", code="suspended")
        return self._grants.open(principal, vmid, may_type=True)

    def open_grants(self) -> int:
        return len(self._grants)

    def _sees(self, account_id: int, role: Role, vmid: int) -> bool:
        owner = self._owners.get(vmid)
        return owner is not None and (role.sees_all or owner == account_id)
