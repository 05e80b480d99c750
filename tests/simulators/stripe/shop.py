"""What is sold in these tests, and how a customer comes to have it."""

from __future__ import annotations

from typing import Any

from stripe import StripeClient

from zlh.simulators.stripe import Price, SimulatedStripe

STARTER, PRO, YEARLY, DOLLARS = "price_starter", "price_pro", "price_yearly", "price_dollars"
PRICES = [
    Price(STARTER, 900, lookup="starter"),
    Price(PRO, 2900, lookup="pro"),
    Price(YEARLY, 9900, interval="year", lookup="starter_yearly"),
    Price(DOLLARS, 1000, currency="usd", lookup="starter_usd"),
]
SUCCESS = "https://portal.example/paid?session={CHECKOUT_SESSION_ID}"


async def check_out(client: StripeClient, customer: str | None, price: str = STARTER, **more: Any) -> Any:
    """An open checkout session."""
    wish: dict[str, Any] = {
        "mode": "subscription",
        "line_items": [{"price": price, "quantity": 1}],
        "success_url": SUCCESS,
        "cancel_url": "https://portal.example/plans",
        **more,
    }
    if customer is not None:
        wish["customer"] = customer
    return await client.v1.checkout.sessions.create_async(wish)


async def subscribe(stripe: SimulatedStripe, client: StripeClient, price: str = STARTER, **more: Any) -> Any:
    """A customer who has paid for the price: the subscription, as the API shows it."""
    customer = await client.v1.customers.create_async({"email": "ada@example.com", **more})
    session = await check_out(client, customer.id, price)
    paid = stripe.pay(session.id)
    return await client.v1.subscriptions.retrieve_async(paid["subscription"])
