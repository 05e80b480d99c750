"""POST /api/billing/webhook: Stripe's word that something happened. Kept first, answered then, and looked into
later."""

from __future__ import annotations

import logging
from typing import Literal

from quart import Response

from zlh.api.answers import Answer
from zlh.api.call import Call, json_response
from zlh.drivers.errors import Invalid
from zlh.drivers.stripe import WebhookRefused, read_webhook
from zlh.model.errors import AbsentError, InvalidError
from zlh.store import billing_events

log = logging.getLogger(__name__)


class Received(Answer):
    received: Literal[True]


async def webhook(call: Call) -> Response:
    """400 for what is not signed by Stripe; then nothing of it is kept. An event that came before is answered
    alike."""
    billing = call.services.billing
    if not billing.webhook_secrets:
        raise AbsentError("there is no such address")
    body = await call.request.get_data(cache=False)
    assert isinstance(body, bytes)
    given = call.request.headers.getlist("Stripe-Signature")
    try:
        event = read_webhook(
            body,
            given[0] if len(given) == 1 else "",
            billing.webhook_secrets,
            now=lambda: billing.now().timestamp(),
        )
    except WebhookRefused as refused:
        raise InvalidError(f"the webhook is refused: {refused}", code="bad_signature") from None
    except Invalid as error:
        raise InvalidError(error.message, code="bad_event") from None
    call.audit.details["type"] = event.type
    new = await call.services.database.run(billing_events.receive, event, billing.now())
    call.audit.details["replayed"] = not new
    return json_response({"received": True})
