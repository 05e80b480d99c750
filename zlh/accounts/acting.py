"""Acting as a customer: an operator sees and does what that customer may, for a reason, and not for long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from zlh.accounts import letters
from zlh.accounts.notices import Notices
from zlh.accounts.tokens import Tokens
from zlh.model.accounts import Account, Acting, Principal, Role
from zlh.model.errors import ConflictError, ForbiddenError
from zlh.store import accounts as rows
from zlh.store import sessions
from zlh.store.database import Database


@dataclass(frozen=True, slots=True)
class ActingToken:
    """`expires_in` is the access token's life in seconds; there is no refresh token."""

    account: Account
    session_id: str
    token: str = field(repr=False)
    expires_in: int


class ActingSessions:
    """Opens sessions in customers' places. They end with their one access token, when the customer or the operator
    ends them, and with the operator's rights; `AccessTable` judges that at every request. The customer is told
    in a letter."""

    def __init__(
        self,
        database: Database,
        tokens: Tokens,
        notices: Notices,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._notices = notices
        self._now = now

    async def begin(self, operator: Principal, account_id: int, *, reason: str, read_only: bool) -> ActingToken:
        """Raises AbsentError, ForbiddenError for an operator's or administrator's account, ConflictError "disabled",
        StoreUnavailable. The customer finds the session, with the reason, among the account's own."""

        def write(connection: sa.Connection) -> tuple[Account, sessions.Session]:
            # Held, so that a role given at this moment either is seen here or ends the session.
            account = rows.lock(connection, account_id)
            if account.role is not Role.CUSTOMER:
                raise ForbiddenError("nobody acts in the place of operators and administrators")
            if account.disabled_at is not None:
                raise ConflictError("the account is disabled", code="disabled")
            now = self._now()
            session = sessions.open_acting(
                connection,
                account.id,
                operator_id=operator.account_id,
                reason=reason,
                read_only=read_only,
                now=now,
                expires_at=now + timedelta(seconds=self._tokens.lifetime_seconds),
            )
            letter = letters.operator_acted(account, now, reason, read_only=read_only)
            self._notices.post(connection, account, letter)
            return account, session

        account, session = await self._database.run(write)
        acting = Acting(operator.account_id, read_only)
        token = self._tokens.issue(account.id, session.id, acting)
        return ActingToken(account, session.id, token, int(self._tokens.lifetime_seconds))
