"""A simulated Stripe as a process of its own.

    python -m zlh.simulators.stripe --port 12111 --key sk_test_1 --price starter=price_starter:900:eur \\
        --webhook-url http://127.0.0.1:8080/api/billing/webhook --webhook-secret whsec_1 --state .zlh/stripe.json

prints one JSON line (`{"url": ...}`) when it listens, and ends on SIGTERM or SIGINT. Started again with the same
`--state`, it goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import trio

from zlh.simulators.far import run_until_signal
from zlh.simulators.stripe.dunning import Dunning, End
from zlh.simulators.stripe.prices import Price
from zlh.simulators.stripe.simulator import HOUR, KEY, SimulatedStripe
from zlh.simulators.stripe.webhooks import PAUSES


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m zlh.simulators.stripe", description="A simulated Stripe")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--key", default=KEY, help="the secret key that may ask")
    parser.add_argument(
        "--price",
        type=Price.parse,
        action="append",
        default=[],
        metavar="NAME=ID:AMOUNT:CURRENCY[:INTERVAL]",
        help="of a month unless another interval is given; amounts in minor units; may be repeated",
    )
    parser.add_argument("--webhook-url", help="where events are posted, and nowhere else")
    parser.add_argument("--webhook-secret", action="append", default=[], help="may be repeated: all of them sign")
    parser.add_argument(
        "--webhook-pauses", type=_numbers, default=PAUSES, help="seconds before each further attempt, with commas"
    )
    parser.add_argument("--state", type=Path, help="a file in which everything is kept")
    parser.add_argument("--invoice-wait", type=int, default=HOUR, help="seconds that renewals' invoices are drafts")
    parser.add_argument(
        "--retry-days", type=_days, default=Dunning().days, help="after a failed payment, with commas"
    )
    parser.add_argument(
        "--unpaid-end", type=End, choices=list(End), default=End.UNPAID, help="when all retries failed"
    )
    return parser.parse_args(arguments)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _days(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main() -> None:
    options = parse_arguments()
    stripe = SimulatedStripe(
        options.key,
        options.price,
        options.port,
        dunning=Dunning(options.retry_days, options.unpaid_end),
        invoice_wait=options.invoice_wait,
        webhook_pauses=options.webhook_pauses,
        state=options.state,
    )
    if options.webhook_url:
        stripe.webhooks.only(options.webhook_url, options.webhook_secret)
    trio.run(run_until_signal, stripe)


if __name__ == "__main__":
    main()
