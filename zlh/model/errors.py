"""What can go wrong with a request, in words for the one who asked.

    ProblemError                 the base; every one has a status, a code and a sentence for a person
    ├── InvalidError             400  the request itself is wrong; `details` lists every problem
    ├── UnauthenticatedError     401  no valid sign-in
    ├── PaymentRequiredError     402  no active plan
    ├── ForbiddenError           403  signed in, but not allowed
    │   └── PlanLimitError       403  plan_limit: the limit, the use and the plan are in `details`
    ├── AbsentError              404  does not exist, or is not yours
    ├── ConflictError            409  not possible in this state; look again
    ├── MismatchError            422  an Idempotency-Key used again with another body
    ├── TooManyError             429  slow down; `retry_after` says for how long
    ├── AgentProblemError        the agent's own status; its refusal is passed on
    ├── AgentUnsupportedError    501  agent_unsupported
    ├── AgentUnreachableError    502  agent_unreachable
    ├── UnavailableError         503  try again after `retry_after` seconds
    └── DeadlineError            504  the time is up; `details.mayTakeEffect` says whether it may still happen

Drivers have a tree of their own (`zlh.drivers.errors`); whoever calls a driver decides which of these it means.
"""

from __future__ import annotations

from typing import Any, ClassVar


class ProblemError(Exception):
    """A refusal that the caller can understand. `retry_after` is in seconds. `subject_id` is the account that a
    refused sign-in was meant for: the audit record keeps it, the caller never hears it."""

    status: int = 500
    default_code: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        details: Any = None,
        retry_after: float | None = None,
        subject_id: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.details = details
        self.retry_after = retry_after
        self.subject_id = subject_id


class InvalidError(ProblemError):
    status = 400
    default_code = "invalid"

    @classmethod
    def of(cls, *problems: tuple[str, str]) -> InvalidError:
        """A request with these problems, each with its field ("" for the whole); all of them are in `details`."""
        words = "; ".join(f"{field}: {problem}" if field else problem for field, problem in problems)
        details = [{"field": field or None, "problem": problem} for field, problem in problems]
        return cls(f"the request is not valid: {words}"[:500], details=details)


class UnauthenticatedError(ProblemError):
    status = 401
    default_code = "unauthenticated"


class PaymentRequiredError(ProblemError):
    status = 402
    default_code = "no_active_plan"


class ForbiddenError(ProblemError):
    status = 403
    default_code = "forbidden"


class PlanLimitError(ForbiddenError):
    default_code = "plan_limit"


class AbsentError(ProblemError):
    status = 404
    default_code = "not_found"


class ConflictError(ProblemError):
    status = 409
    default_code = "conflict"


class MismatchError(ProblemError):
    status = 422
    default_code = "idempotency_mismatch"


class TooManyError(ProblemError):
    status = 429
    default_code = "too_many_requests"


class AgentProblemError(ProblemError):
    """The agent answered with an error of its own; its status and details are passed on."""

    default_code = "agent_refused"

    def __init__(self, status: int, message: str, *, details: Any = None) -> None:
        super().__init__(message, details=details)
        self.status = status


class AgentUnsupportedError(ProblemError):
    status = 501
    default_code = "agent_unsupported"


class AgentUnreachableError(ProblemError):
    status = 502
    default_code = "agent_unreachable"


class UnavailableError(ProblemError):
    status = 503
    default_code = "unavailable"


class DeadlineError(ProblemError):
    status = 504
    default_code = "deadline_exceeded"
