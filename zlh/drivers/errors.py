"""What can go wrong with an outside system, in words for the code that has to decide what to do next.

    DriverError            the base; `str(error)` is one line, free of secrets
    ├── Unreachable        no usable answer: try again later. `may_have_happened` tells whether a mutation
    │                      may have been carried out all the same: then read back before doing it again
    ├── Refused            understood and told no: tell the person. `status` is the wire's status, `details` the
    │                      outside system's own words per field, where it gave any
    ├── Conflict           not in this state: look again, then decide
    │   ├── Locked         someone else is at it right now: try the same again shortly
    │   └── AlreadyExists  the name or number is taken
    ├── NotFound           it is not there
    ├── Unsupported        this version of the outside system cannot do it
    └── Invalid            an answer came, but not of the promised shape; for a mutation it may have happened

Every driver translates the exceptions of its library into these once; nothing else leaves a driver but
cancellation and programming errors.
"""

from __future__ import annotations

from collections.abc import Mapping


class DriverError(Exception):
    """`may_have_happened` is meaningful after a mutation only; reads never change anything."""

    def __init__(self, message: str, *, may_have_happened: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.may_have_happened = may_have_happened


class Unreachable(DriverError):
    pass


class Refused(DriverError):
    """`status` is the wire's status code; `details` maps a field's name to the complaint about it."""

    def __init__(self, message: str, *, status: int, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.details = dict(details or {})


class Conflict(DriverError):
    pass


class Locked(Conflict):
    pass


class AlreadyExists(Conflict):
    pass


class NotFound(DriverError):
    pass


class Unsupported(DriverError):
    pass


class Invalid(DriverError):
    pass
