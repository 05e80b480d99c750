"""What people are told by letter of what happens to their accounts, in the transaction in which it happens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from zlh.accounts.attempts import Attempts
from zlh.model.accounts import Account
from zlh.model.errors import TooManyError
from zlh.store import outbox
from zlh.store.outbox import Letter

UNVERIFIED_PER_HOUR: Final = 10
"""To an address that nobody verified, for it may be a stranger's, whose mailbox is not to be filled with ours."""


class Notices:
    """`mail`: e-mail leaves this installation; otherwise nothing is told."""

    def __init__(self, *, mail: bool, now: Callable[[], datetime]) -> None:
        self._mail = mail
        self._now = now
        self._unverified = Attempts(UNVERIFIED_PER_HOUR, 3600.0)
        # Transactions run in threads.
        self._lock = threading.Lock()

    def post(self, connection: sa.Connection, account: Account, letter: Letter) -> None:
        """Tells the owner of the account, as it is in this transaction; nothing where there were too many."""
        if self._mail and (account.email_verified_at is not None or self._has_room(account)):
            outbox.post(connection, letter, self._now())

    def _has_room(self, account: Account) -> bool:
        with self._lock:
            try:
                self._unverified.take(str(account.id))
            except TooManyError:
                return False
        return True
