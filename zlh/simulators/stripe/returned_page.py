"""Where customers come back to where there is no portal of the seller's own, as in a demo."""

from __future__ import annotations

from html import escape

from zlh.simulators.agent.http import Response
from zlh.simulators.stripe.pages import note, page

PATH = "/returned"
TOLD = {
    "success": ("Thank you", "The payment was made."),
    "cancelled": ("Maybe later", "Nothing was paid."),
}
BACK = ("Back again", "What was changed at Stripe is known here, too.")


def returned(checkout: str) -> Response:
    """`checkout` is how a visit to the checkout page ended; empty after a visit to the billing portal."""
    title, words = TOLD.get(checkout, BACK)
    body = (
        f'<section class="card"><h1>{escape(title)}</h1>{note(words, good=checkout != "cancelled")}'
        "<p>Here the seller's own portal would go on.</p>"
        '<p class="muted">This page changes nothing, and proves nothing: that somebody paid is told by a webhook, and'
        " looked up.</p></section>"
    )
    return page(title, body)
