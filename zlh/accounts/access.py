"""Who may do what, from memory: accounts, revoked sessions, API keys, owners and shares, kept current by those who
change them.

Nothing here waits. Every request asks, so a logout or a suspension holds from the moment that it was recorded.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from zlh.accounts.grants import EXPIRED, GONE, NOT_PERMITTED, SIGNED_OUT, SUSPENDED, AccessGrant, Grants
from zlh.accounts.shared import SharedTable
from zlh.accounts.signer import CLOCK_SKEW_SECONDS, Claims
from zlh.accounts.tokens import Tokens
from zlh.model.access import EVERYTHING, EVERYTHING_IN_SIGHT, Permission, Scope, Sight, with_implied
from zlh.model.accounts import Account, Principal, Role
from zlh.model.errors import AbsentError, ForbiddenError, UnauthenticatedError

KEY_PREFIX = "zlh_"
"""What every API key begins with: access tokens never do, and those who look for leaked secrets know what it is."""

KEY_SESSION = "key:"
"""What stands before an API key's id where others have a sign-in session's."""

NOTHING: frozenset[Permission] = frozenset()
SEEN = with_implied(())

# Called with an API key's id and the client's address ("" where that is not known), as often as the key is used.
KeyUsed = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Standing:
    """What counts of an account at each request."""

    role: Role
    suspended: bool
    disabled: bool
    second_factor: bool

    @property
    def in_order(self) -> bool:
        return not (self.suspended or self.disabled)


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """What counts of an API key at each request. `expires_at` is Unix seconds, inf for never."""

    id: str
    account_id: int
    scopes: frozenset[Scope]
    expires_at: float


class AccessTable:
    """Answers from memory; implements `zlh.model.console.Doorkeeper`.

    Where `operators_need_second_factor`, an operator who has none is a customer until it is switched on.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        now: Callable[[], float] = time.time,
        operators_need_second_factor: bool = False,
        key_used: KeyUsed | None = None,
    ) -> None:
        self._tokens = tokens
        self._now = now
        self._operators_need_second_factor = operators_need_second_factor
        self.key_used = key_used
        self._standing: dict[int, Standing] = {}
        self._revoked: dict[str, float] = {}
        self._keys: dict[str, KeyStanding] = {}
        self._key_hashes: dict[str, str] = {}
        self._owners: dict[int, int] = {}
        self._given: dict[int, dict[int, frozenset[Permission]]] = {}
        self._on_suspension: list[Callable[[int], None]] = []
        self.shared = SharedTable()
        self._grants = Grants(now)

    def load(self, accounts: Iterable[Account], revoked_sessions: Iterable[str]) -> None:
        """Fills the table at start. Of the revoked sessions only those matter whose tokens may still be alive."""
        for account in accounts:
            self.account_changed(account)
        for session_id in revoked_sessions:
            self.session_revoked(session_id)

    def on_suspension(self, heard: Callable[[int], None]) -> None:
        """Calls `heard` with an account's id, the moment that it is suspended, or is not any more; and for a new one.
        It is to look for itself, and must not block."""
        self._on_suspension.append(heard)

    async def run(self) -> None:
        """Ends grants at their token's expiry; runs until cancelled."""
        await self._grants.expire()

    # What others tell.

    def account_changed(self, account: Account) -> None:
        """A new account, a new role, a suspension, a second factor. What is open and no longer allowed ends now."""
        before = self._standing.get(account.id)
        standing = Standing(
            account.role,
            account.suspended_at is not None,
            account.disabled_at is not None,
            account.second_factor_at is not None,
        )
        self._standing[account.id] = standing
        self._look_again(self._grants.of_account(account.id))
        if standing.in_order != (before is None or before.in_order):
            for vmid, given in list(self._given.items()):
                if account.id in given or self._owners.get(vmid) == account.id:
                    self._share(vmid)
        if before is None or before.suspended is not standing.suspended:
            for heard in self._on_suspension:
                heard(account.id)

    def account_seen(self, account: Account) -> None:
        """Somebody signs in whose account another process may have made a moment ago. What the table was told of it
        counts: `account` was read before, and may not know of the suspension that was recorded since."""
        if account.id not in self._standing:
            self.account_changed(account)

    def session_revoked(self, session_id: str) -> None:
        """Logout, a new password, or a refresh token used twice."""
        now = self._now()
        # Its last token was issued before now, by a clock that may be ahead of ours, so after one lifetime and the
        # skew that we allow none is left to refuse. Oldest first: all stay equally long.
        while self._revoked and next(iter(self._revoked.values())) <= now:
            del self._revoked[next(iter(self._revoked))]
        self._revoked.setdefault(session_id, now + self._tokens.lifetime_seconds + CLOCK_SKEW_SECONDS)
        for grant in self._grants.of_session(session_id):
            grant.end(*SIGNED_OUT)

    def tokens_withdrawn(self) -> None:
        """A signing key may be in wrong hands: who stays by what it signed has to come back with a new token."""
        self._tokens.forget_all()
        for grant in self._grants.of_sign_ins():
            grant.end(*SIGNED_OUT)

    def key_changed(self, token_hash: str, key: KeyStanding) -> None:
        """A new API key; `token_hash` is what `key_hash` makes of it."""
        self._key_hashes[key.id] = token_hash
        self._keys[token_hash] = key

    def key_revoked(self, key_id: str) -> None:
        """Unknown ids are none of this table's business."""
        self._keys.pop(self._key_hashes.pop(key_id, ""), None)
        for grant in self._grants.of_session(_key_session(key_id)):
            grant.end(*SIGNED_OUT)

    def key_ids(self) -> set[str]:
        return set(self._key_hashes)

    def owner_changed(self, vmid: int, owner_id: int | None) -> None:
        """Fed by the fleet; None when the container is gone, and its shares with it."""
        if owner_id is None:
            self._owners.pop(vmid, None)
            self._given.pop(vmid, None)
        else:
            self._owners[vmid] = owner_id
        self._share(vmid)

    def shares_changed(self, vmid: int, shares: Mapping[int, Iterable[Permission]]) -> None:
        """All the shares of one container: account id -> what it was given."""
        self._given[vmid] = {account_id: with_implied(given) for account_id, given in shares.items()}
        if not shares:
            del self._given[vmid]
        self._share(vmid)

    # What requests ask.

    def principal(self, token: str, address: str = "") -> Principal:
        """Who holds this access token or API key, which is used from `address`. Raises UnauthenticatedError. A
        suspended account is still somebody."""
        if token.startswith(KEY_PREFIX):
            return self._by_key(token, address)
        return self._by_claims(self._tokens.verify(token))

    def holder(self, claims: Claims) -> Principal:
        """Who made a token of another kind, by a sign-in or an API key, as that stands now. Raises
        UnauthenticatedError."""
        if not claims.session_id.startswith(KEY_SESSION):
            return self._by_claims(claims)
        key = self._keys.get(self._key_hashes.get(claims.session_id.removeprefix(KEY_SESSION), ""))
        if key is None or key.account_id != claims.account_id:
            raise UnauthenticatedError("the sign-in has ended", code="signed_out")
        return replace(self._of_key(key), expires_at=min(key.expires_at, claims.expires_at))

    def suspended(self, principal: Principal) -> bool:
        return self._standing[principal.account_id].suspended

    def account_suspended(self, account_id: int) -> bool | None:
        """None for an account that this table was not told of."""
        standing = self._standing.get(account_id)
        return None if standing is None else standing.suspended

    def owner_of(self, vmid: int) -> int | None:
        """None for a container that does not exist."""
        return self._owners.get(vmid)

    def may_see(self, principal: Principal, vmid: int) -> bool:
        """False also for a container that does not exist."""
        return Permission.VIEW in self.permissions(principal, vmid)

    def permissions(self, principal: Principal, vmid: int) -> frozenset[Permission]:
        """What the account may do at the container, whatever the credential's scopes are; nothing where it does not
        exist or is somebody else's."""
        owner = self._owners.get(vmid)
        if owner is None:
            return NOTHING
        if principal.role.sees_all or owner == principal.account_id:
            return EVERYTHING
        return self.shared.with_account(principal.account_id).get(vmid, NOTHING)

    def sight(self, principal: Principal) -> Sight:
        """Which containers the principal sees."""
        if principal.role.sees_all:
            return EVERYTHING_IN_SIGHT
        return Sight(principal.account_id, self.shared.with_account(principal.account_id))

    def check(self, principal: Principal, vmid: int, permission: Permission) -> None:
        """Raises AbsentError where the container does not exist for the principal, ForbiddenError "not_permitted"."""
        held = self.permissions(principal, vmid)
        if not held:
            raise AbsentError("there is no such server")
        if permission not in held:
            raise ForbiddenError(
                "you may not do that with this server", code="not_permitted", details={"permission": permission.value}
            )

    def check_unattended(self, account_id: int, vmid: int, permission: Permission) -> None:
        """Whether what the account left to be done may be done now, when nobody is there to sign in. Raises as
        `check`, and ForbiddenError "suspended" where that account or the container's owner is not in order."""
        for concerned in {account_id, self._owners.get(vmid, account_id)}:
            standing = self._standing.get(concerned)
            if standing is None or not standing.in_order:
                raise ForbiddenError("the account is suspended", code="suspended")
        role = self._effective(self._standing[account_id], None)
        self.check(Principal(account_id, role, "", math.inf), vmid, permission)

    def enter(
        self,
        token: str,
        vmid: int,
        permission: Permission,
        scope: Scope,
        *,
        changes: bool,
        address: str = "",
        lasting: float = 0.0,
        suspended: bool = False,
    ) -> AccessGrant:
        """See `zlh.model.console.Doorkeeper`."""
        principal = self.principal(token, address)
        self._refuse_suspended(principal, suspended)
        self.check(principal, vmid, permission)
        require_scope(principal, scope)
        if changes and principal.acting is not None and principal.acting.read_only:
            raise ForbiddenError("you act in a customer's place, and only to look", code="read_only")
        if lasting and principal.scopes is None and principal.acting is None:
            principal = replace(principal, expires_at=max(principal.expires_at, self._now() + lasting))
        return self.stay(principal, vmid, permission, suspended=suspended)

    def stay(
        self,
        principal: Principal,
        vmid: int | None = None,
        permission: Permission = Permission.VIEW,
        *,
        suspended: bool = False,
    ) -> AccessGrant:
        """A grant for a connection that stays open, for as long as `permission` at the container is held; one that
        has ended already where the right was lost since the principal was found out. Raises ForbiddenError for a
        suspended account, unless such a one may do that too."""
        self._refuse_suspended(principal, suspended)
        may_type = self._may_type(principal, vmid)
        grant = self._grants.open(principal, vmid, permission, may_type=may_type, suspended=suspended)
        if self._signed_out(principal.session_id):
            grant.end(*SIGNED_OUT)
        self._look_again([grant])
        return grant

    def open_grants(self) -> int:
        return len(self._grants)

    # How it is found out.

    def _by_claims(self, claims: Claims) -> Principal:
        standing = self._present(claims.account_id)
        if claims.session_id in self._revoked:
            raise UnauthenticatedError("the sign-in has ended", code="signed_out")
        acting = claims.acting
        if acting is not None:
            operator = self._present(acting.operator_id)
            if operator.suspended or not self._effective(operator, None).sees_all:
                raise UnauthenticatedError("the sign-in has ended", code="signed_out")
        # In a customer's place an operator may do what that customer may, and no more.
        role = Role.CUSTOMER if acting is not None else self._effective(standing, None)
        return Principal(
            claims.account_id,
            role,
            claims.session_id,
            claims.expires_at,
            acting=acting,
            second_factor_owed=acting is None and self._owes_second_factor(standing),
        )

    def _by_key(self, token: str, address: str) -> Principal:
        key = self._keys.get(key_hash(token))
        if key is None:
            raise UnauthenticatedError("the API key is not valid", code="invalid_key")
        principal = self._of_key(key)
        if self.key_used is not None:
            self.key_used(key.id, address)
        return principal

    def _of_key(self, key: KeyStanding) -> Principal:
        if key.expires_at <= self._now():
            raise UnauthenticatedError("the API key has expired", code="key_expired")
        standing = self._present(key.account_id)
        role = self._effective(standing, key.scopes)
        owed = Scope.OPERATOR in key.scopes and self._owes_second_factor(standing)
        return Principal(
            key.account_id, role, _key_session(key.id), key.expires_at, key.scopes, second_factor_owed=owed
        )

    def _refuse_suspended(self, principal: Principal, may: bool) -> None:
        if not may and self.suspended(principal):
            raise ForbiddenError("the account is suspended", code="suspended")

    def _signed_out(self, session_id: str) -> bool:
        if session_id.startswith(KEY_SESSION):
            return session_id.removeprefix(KEY_SESSION) not in self._key_hashes
        return session_id in self._revoked

    def _present(self, account_id: int) -> Standing:
        standing = self._standing.get(account_id)
        if standing is None or standing.disabled:
            raise UnauthenticatedError("the sign-in has ended", code="signed_out")
        return standing

    def _effective(self, standing: Standing, scopes: frozenset[Scope] | None) -> Role:
        """The role that counts: `scopes` are an API key's. What the suspended still may, they may with what is
        theirs, operators too."""
        lacks_scope = scopes is not None and Scope.OPERATOR not in scopes
        if standing.suspended or lacks_scope or self._owes_second_factor(standing):
            return Role.CUSTOMER
        return standing.role

    def _owes_second_factor(self, standing: Standing) -> bool:
        return self._operators_need_second_factor and standing.role.sees_all and not standing.second_factor

    def _may_type(self, principal: Principal, vmid: int | None) -> bool:
        if vmid is None or (principal.acting is not None and principal.acting.read_only):
            return False
        return Permission.CONSOLE in self.permissions(principal, vmid)

    def _share(self, vmid: int) -> None:
        """What was given counts as long as the accounts of the owner and of the one who has it are in order; until
        then the container is only seen. A suspended customer would go on by a second account otherwise, or with a
        friend's container."""
        given = self._given.get(vmid, {})
        if self._out_of_order(self._owners.get(vmid, 0)):
            given = dict.fromkeys(given, SEEN)
        else:
            given = {holder: SEEN if self._out_of_order(holder) else held for holder, held in given.items()}
        self.shared.put(vmid, given)
        self._look_again(self._grants.of_container(vmid))

    def _out_of_order(self, account_id: int) -> bool:
        standing = self._standing.get(account_id)
        return standing is not None and not standing.in_order

    def _look_again(self, grants: Iterable[AccessGrant]) -> None:
        for grant in grants:
            verdict = self._verdict(grant)
            if verdict is not None:
                grant.end(*verdict)
            else:
                grant.may_type = self._may_type(grant.principal, grant.vmid)

    def _verdict(self, grant: AccessGrant) -> tuple[int, str] | None:
        """Why the grant must end now, as a close code with its reason; None where it may stay."""
        principal = grant.principal
        for account_id in {principal.account_id, principal.actor_id}:
            standing = self._standing.get(account_id)
            if standing is None or standing.disabled:
                return SIGNED_OUT
            if standing.suspended and not (grant.suspended and account_id == principal.account_id):
                return SUSPENDED
        if principal.acting is not None:
            if not self._effective(self._standing[principal.actor_id], None).sees_all:
                return SIGNED_OUT
        else:
            role = self._effective(self._standing[principal.account_id], principal.scopes)
            if grant.vmid is None and role is not principal.role:
                # What it was shown depends on the role; it signs on again with the new one.
                return SUSPENDED if self.suspended(principal) else SIGNED_OUT
            grant.principal = principal = replace(principal, role=role)
        if grant.vmid is not None:
            held = self.permissions(principal, grant.vmid)
            if grant.permission not in held:
                return NOT_PERMITTED if held else GONE
        return EXPIRED if grant.expires_at <= self._now() else None


def require_scope(principal: Principal, scope: Scope | None) -> None:
    """Raises ForbiddenError "scope" for an API key that was not given `scope`; None: no key may do that."""
    if principal.scopes is None:
        return
    if scope is None:
        raise ForbiddenError("an API key may not do that; sign in", code="scope")
    if scope not in principal.scopes:
        raise ForbiddenError(
            f"this API key lacks the scope {scope.value}", code="scope", details={"scope": scope.value}
        )


def key_hash(token: str) -> str:
    """By which an API key is found: SHA-256, in hex. A plain hash will do, there is nothing to guess in 256 bits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _key_session(key_id: str) -> str:
    return KEY_SESSION + key_id
