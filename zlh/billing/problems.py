"""What Stripe's refusals and silences mean for the one who asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from zlh.drivers.errors import Conflict, DriverError, NotFound, Refused
from zlh.model.errors import ConflictError, PaymentRequiredError, UnavailableError

RETRY_SECONDS: Final = 10.0


@contextmanager
def as_problem(order: str | None = None) -> Iterator[None]:
    """DriverErrors become ProblemErrors. `order` is the id of the one that goes on by itself where Stripe is
    silent."""
    try:
        yield
    except Refused as error:
        if error.status == 402:
            raise PaymentRequiredError(
                "the payment failed; nothing was changed", code="payment_failed", details=error.details or None
            ) from error
        raise ConflictError("Stripe refuses that", code="stripe_refused", details=error.details or None) from error
    except (Conflict, NotFound) as error:
        raise ConflictError(error.message, code="stripe_refused") from error
    except DriverError as error:
        details = {"order": order, "mayTakeEffect": True} if order is not None else None
        raise UnavailableError(
            "payments cannot be reached at the moment",
            code="stripe_unavailable",
            details=details,
            retry_after=RETRY_SECONDS,
        ) from error
