"""What an error of the database means, judged by its SQLSTATE (PostgreSQL's manual, appendix A)."""

from __future__ import annotations

from enum import Enum, auto

import psycopg
from sqlalchemy.exc import DBAPIError, TimeoutError


class Fault(Enum):
    LOST = auto()  # the connection is gone, or was never made
    COLLISION = auto()  # another transaction won: the same again may succeed at once
    SLOW = auto()  # a time-out: PostgreSQL is there, but does not keep up
    BUG = auto()


_COLLISIONS = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected
_SLOW = frozenset({"57014", "55P03"})  # query_canceled (by statement_timeout), lock_not_available
# admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections, idle_session_timeout,
# idle_in_transaction_session_timeout, read_only_sql_transaction (a standby, before it is promoted)
_LOST = frozenset({"57P01", "57P02", "57P03", "53300", "57P05", "25P03", "25006"})
# Classes: connection_exception, and what the machine lacks (insufficient_resources, a full disk too; system_error).
_LOST_CLASSES = ("08", "53", "58")


def judge(error: DBAPIError | TimeoutError) -> Fault:
    if isinstance(error, TimeoutError):
        return Fault.SLOW
    original = error.orig
    if not isinstance(original, psycopg.Error):
        return Fault.BUG
    state = original.sqlstate
    if state is None:
        # libpq's own errors carry no SQLSTATE: refused, reset, "server closed the connection unexpectedly".
        return Fault.LOST if isinstance(original, psycopg.OperationalError) else Fault.BUG
    if state in _COLLISIONS:
        return Fault.COLLISION
    if state in _SLOW:
        return Fault.SLOW
    return Fault.LOST if state in _LOST or state.startswith(_LOST_CLASSES) else Fault.BUG
