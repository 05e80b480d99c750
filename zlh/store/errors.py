"""What the store itself can raise, beside the refusals of `zlh.model.errors`.

    UnavailableError (model)      503
    └── StoreUnavailable          PostgreSQL is away, restarting or too slow: try again later
    IllegalMoveError              a bug in the caller: the journal does not allow that
    EmbeddedError                 the embedded PostgreSQL could not be started
    └── DataDirectoryInUse        another process of ours runs on the same data directory

Every other exception that leaves the store is a bug.
"""

from __future__ import annotations

from zlh.model.errors import UnavailableError


class StoreUnavailable(UnavailableError):
    """`may_have_committed` is true where the connection was lost during COMMIT: look before trying again."""

    default_code = "store_unavailable"

    def __init__(self, message: str, *, may_have_committed: bool = False) -> None:
        super().__init__(message, retry_after=2)
        self.may_have_committed = may_have_committed


class IllegalMoveError(Exception):
    """An operation or a step was asked to go to a state that cannot follow its present one."""


class EmbeddedError(Exception):
    """The embedded PostgreSQL did not start; the message carries the end of its log."""


class DataDirectoryInUse(EmbeddedError):
    """The data directory is held by a living process; the message names its pid."""
