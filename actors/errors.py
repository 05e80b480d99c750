"""What can go wrong with a message or with a child, in words that say what the caller can do.

ActorError
├── NotDelivered           the message was not and will not be handled
│   ├── MailboxFull        try again later
│   ├── ActorStopped       the actor is gone or going (`began` tells whether a handler had begun)
│   └── ActorQuarantined   the actor crashed too often; it is retried, or an operator releases it
├── AskTimeout             no reply in time; `began` tells whether a handler had begun
├── ActorCrashed           the handler raised; the original exception is `__cause__`
├── ChildFault             a child broke its contract with its supervisor
│   ├── StartTimeout       it was not up within `startup` seconds
│   └── Returned           a permanent task returned
├── UnknownPath            there is no such child (also a LookupError)
└── ChildExists            a child of that name is already there (also a ValueError)
"""

from __future__ import annotations


class ActorError(Exception):
    """The base. `path` names the child that it is about."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path or 'root'}: {problem}")
        self.path = path


class NotDelivered(ActorError):
    pass


class MailboxFull(NotDelivered):
    """The lane holds as many envelopes as it may. Raised at once, nothing was queued."""

    def __init__(self, path: str, lane: str) -> None:
        super().__init__(path, f"lane {lane!r} is full")
        self.lane = lane


class ActorStopped(NotDelivered):
    """`began` is true for an ask whose handler was cut off: it may have taken effect in part."""

    def __init__(self, path: str, *, began: bool = False) -> None:
        super().__init__(path, "stopped while handling" if began else "is stopped")
        self.began = began


class ActorQuarantined(NotDelivered):
    def __init__(self, path: str) -> None:
        super().__init__(path, "is quarantined after too many crashes")


class AskTimeout(ActorError):
    """`began` is true when a handler had taken the message up: it goes on, and may still take effect."""

    def __init__(self, path: str, within: float, *, began: bool) -> None:
        state = "still handling it" if began else "not begun"
        super().__init__(path, f"no reply within {within:g} s ({state})")
        self.within = within
        self.began = began


class ActorCrashed(ActorError):
    """A handler of the actor raised. For asks that ran beside the crashing one, it is the same cause."""

    def __init__(self, path: str, cause: BaseException) -> None:
        super().__init__(path, f"crashed: {type(cause).__name__}: {cause}")
        self.__cause__ = cause


class ChildFault(ActorError):
    pass


class StartTimeout(ChildFault):
    def __init__(self, path: str, startup: float) -> None:
        super().__init__(path, f"was not up within {startup:g} s")


class Returned(ChildFault):
    def __init__(self, path: str) -> None:
        super().__init__(path, "returned, but is permanent")


class UnknownPath(ActorError, LookupError):
    def __init__(self, path: str, problem: str = "no such child") -> None:
        super().__init__(path, problem)


class ChildExists(ActorError, ValueError):
    def __init__(self, path: str) -> None:
        super().__init__(path, "a child of this name is already there")
