"""A Stripe account that keeps state and fails on demand: the far end for the official library.

async with open_stripe([Price("price_s", 900, lookup="starter")]) as stripe:
    client = StripeClient(KEY, base_addresses={"api": stripe.url}, http_client=HTTPXClient())
    stripe.webhooks.add("http://127.0.0.1:8080/hook", "whsec_x")
    ...
    stripe.pay(session.id)
    stripe.advance(31 * DAY)
    await stripe.webhooks.quiet()

Trials, taxes, coupons, metered prices, quotes and refunds are not there. All items of a subscription have one
interval, and a `cancel_at` in the middle of a period gives nothing back.
"""

from zlh.simulators.far import FaultName
from zlh.simulators.stripe.cards import Card
from zlh.simulators.stripe.dunning import Dunning, End
from zlh.simulators.stripe.errors import Wrong
from zlh.simulators.stripe.periods import DAY
from zlh.simulators.stripe.prices import Price
from zlh.simulators.stripe.simulator import KEY, SimulatedStripe, open_stripe
from zlh.simulators.stripe.version import VERSION

__all__ = [
    "DAY",
    "KEY",
    "VERSION",
    "Card",
    "Dunning",
    "End",
    "FaultName",
    "Price",
    "SimulatedStripe",
    "Wrong",
    "open_stripe",
]
