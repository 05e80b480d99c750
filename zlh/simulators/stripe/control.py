"""What a test or a demo does from another process, besides faults:

POST /simulator/advance     {"seconds"} or {"to"}; with "test_clock" that clock, however far
POST /simulator/cards       {"customer", "card": "works" | "declined" | "requires_action" | "none"}
POST /simulator/pay         {"session", "card"?}
POST /simulator/portal      {"action": "cancel" | "resume", "subscription"} or {"action": "card", "customer"}
POST /simulator/disputes    {"customer", "reason"?}
POST /simulator/endpoints   {"url", "secrets": [...], "types"?: [...]}
POST /simulator/webhooks    {"duplicates"?, "disorder"?, "held"?, "dropped"?, "skew"?}
POST /simulator/redeliver   {"days", "types"?: [...]}
POST /simulator/faults      also {"fault": "card_declined", "customer"}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zlh.simulators.agent.http import Refusal
from zlh.simulators.stripe.cards import Card
from zlh.simulators.stripe.errors import Document, Wrong

if TYPE_CHECKING:
    from zlh.simulators.stripe.simulator import SimulatedStripe


def obey(stripe: SimulatedStripe, command: str, wish: dict[str, Any]) -> Document:
    """Raises Refusal(400), Refusal(404) where the command is none."""
    try:
        return _obey(stripe, command, wish)
    except (KeyError, ValueError, TypeError) as error:
        raise Refusal(400, f"that is not as it should be: {error!r}") from None
    except Wrong as wrong:
        raise Refusal(wrong.status, str(wrong)) from None


def _obey(stripe: SimulatedStripe, command: str, wish: dict[str, Any]) -> Document:
    match command:
        case "advance":
            clock = wish.get("test_clock")
            seconds = wish["seconds"] if "seconds" in wish else wish["to"] - stripe.now(clock)
            stripe.advance(seconds, clock)
            return {"now": stripe.now(clock)}
        case "cards":
            stripe.set_card(wish["customer"], Card(wish["card"]))
        case "faults":
            stripe.set_card(wish["customer"], Card.DECLINED)
        case "pay":
            return stripe.pay(wish["session"], Card(wish.get("card", Card.WORKS)))
        case "portal" if wish["action"] == "card":
            stripe.fix_card(wish["customer"])
        case "portal" if wish["action"] == "cancel":
            stripe.cancel(wish["subscription"])
        case "portal" if wish["action"] == "resume":
            stripe.resume(wish["subscription"])
        case "disputes":
            return stripe.dispute(wish["customer"], wish.get("reason", "fraudulent"))
        case "endpoints":
            endpoint = stripe.webhooks.add(wish["url"], wish["secrets"], wish.get("types", ("*",)))
            return {"id": endpoint.id}
        case "webhooks":
            stripe.webhooks.change(**wish)
        case "redeliver":
            return {"count": stripe.redeliver(wish["days"], wish.get("types", ("*",)))}
        case _:
            raise Refusal(404, "no such endpoint")
    return {}
