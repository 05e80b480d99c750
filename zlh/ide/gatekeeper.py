"""Who may come to a place: by a token once, by the pass that it became from then on, asked anew at every request."""

from __future__ import annotations

from dataclasses import dataclass

from zlh.accounts import KEY_PREFIX, AccessGrant, AccessTable, IdeTokens, require_scope
from zlh.accounts.signer import Signer
from zlh.ide.passes import Passes
from zlh.ide.places import Place
from zlh.ide.ports import ForwardedPorts
from zlh.model.access import Permission, Scope
from zlh.model.accounts import Principal
from zlh.model.errors import AbsentError, ForbiddenError, UnauthenticatedError
from zlh.model.ports import Visibility


@dataclass(frozen=True, slots=True)
class Admitted:
    """`principal` is None at a public port. `renewed` is a pass to give to the browser in place of its own."""

    principal: Principal | None
    renewed: str | None = None


class Gatekeeper:
    """All refusals are ProblemErrors."""

    def __init__(
        self, access: AccessTable, passes: Passes, tokens: IdeTokens, ports: ForwardedPorts, signer: Signer
    ) -> None:
        self.passes = passes
        self._signer = signer
        self._access = access
        self._tokens = tokens
        self._ports = ports

    async def redeem(self, token: str, place: Place) -> str:
        """The pass for a token, which is spent by that. Raises also StoreUnavailable."""
        principal = await self._tokens.redeem(token, place.vmid, place.port)
        self._check(place, principal)
        return await self.passes.issue(principal, place)

    async def admit(self, place: Place, offered: list[str]) -> Admitted:
        """By the first of the offered passes that is good. Raises UnauthenticatedError where there is none,
        ForbiddenError and AbsentError where that one may not come (any more), StoreUnavailable."""
        if self.is_public(place):
            return Admitted(None)
        refused = UnauthenticatedError("sign in first")
        # More than one came only where a page of another host planted one.
        for token in offered[:4]:
            try:
                found = self.passes.read(token, place)
                principal = await self.passes.holder(found)
                renewed = await self.passes.renewed(found, principal, place)
            except UnauthenticatedError as error:
                refused = error
                continue
            self._check(place, principal)
            return Admitted(principal, renewed)
        raise refused

    def recognise(self, place: Place, token: str) -> Principal | None:
        """Whom `admit` would let in by that pass at this moment; None where it would ask the store, renew the pass
        or refuse."""
        try:
            found = self.passes.recognise(token, place)
            if found is None:
                return None
            principal = self._access.holder(found.claims)
            self._check(place, principal)
        except (AbsentError, ForbiddenError, UnauthenticatedError):
            return None
        return principal

    def stay(self, place: Place, principal: Principal) -> AccessGrant:
        """What ends with the right of one who was admitted. Raises ForbiddenError for a suspended account."""
        if self._is_for_all(place):
            return self._access.stay(principal)
        return self._access.stay(principal, place.vmid, Permission.IDE)

    def may_power(self, principal: Principal, vmid: int) -> bool:
        """Whether the principal may switch the container on."""
        return Permission.POWER in self._access.permissions(principal, vmid) and (
            principal.scopes is None or Scope.SERVERS_POWER in principal.scopes
        )

    def may_into_ide(self, principal: Principal, vmid: int) -> bool:
        """Whether one who was admitted to a place of the container could be at its IDE, too."""
        return Permission.IDE in self._access.permissions(principal, vmid)

    def is_ours(self, authorization: str) -> bool:
        """Whether this value of Authorization looks like an API key or a token of ours, good or not."""
        token = authorization.partition(" ")[2].strip()
        return token.startswith(KEY_PREFIX) or self.issued(token)

    def issued(self, token: str) -> bool:
        """Whether this claims to be a token of ours, good or not."""
        return self._signer.issued(token)

    def is_public(self, place: Place) -> bool:
        return self._visibility(place) is Visibility.PUBLIC

    def welcome(self, place: Place, principal: Principal | None) -> bool:
        """Whether the place lets in somebody who was admitted; None: who came without a name."""
        if self.is_public(place):
            return True
        if principal is None:
            return False
        try:
            self._check(place, principal)
        except (AbsentError, ForbiddenError, UnauthenticatedError):
            return False
        return True

    def _check(self, place: Place, principal: Principal) -> None:
        if self._access.suspended(principal):
            raise ForbiddenError("the account is suspended", code="suspended")
        require_scope(principal, Scope.IDE)
        if self._is_for_all(place):
            return
        self._access.check(principal, place.vmid, Permission.IDE)
        if place.port is not None and self._ports.get(place.vmid, place.port) is None:
            raise AbsentError("that port is not forwarded")

    def _is_for_all(self, place: Place) -> bool:
        return self._visibility(place) in (Visibility.SIGNED_IN, Visibility.PUBLIC)

    def _visibility(self, place: Place) -> Visibility | None:
        found = self._ports.get(place.vmid, place.port) if place.port is not None else None
        return found.visibility if found is not None else None
