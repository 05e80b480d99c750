"""Where the demo's customers pay: a simulated Stripe, whose pages open in a browser."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape

import httpx

from zlh.demo.part import PartSpec
from zlh.demo.place import Place
from zlh.demo.portal import RefusedError
from zlh.model.plans import Plan

PAUSES = "0.5,1,2,5,10,30,60"
PAY = re.compile(r'action="([^"]+/pay)"')


@dataclass(frozen=True)
class Payments:
    """The Stripe of one run, and what the API must know of it. It sells the plans that have a price."""

    place: Place
    plans: Mapping[str, Plan]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.place.secrets.stripe_port}"

    def environment(self) -> dict[str, str]:
        kept = self.place.secrets
        return {
            "ZLH_STRIPE_URL": self.url,
            "ZLH_STRIPE_SECRET_KEY": kept.stripe_key,
            "ZLH_STRIPE_WEBHOOK_SECRET": kept.stripe_webhook_secret,
            # There is no Portal to come back to.
            "ZLH_STRIPE_SUCCESS_URL": f"{self.url}/returned?checkout=success",
            "ZLH_STRIPE_CANCEL_URL": f"{self.url}/returned?checkout=cancelled",
            "ZLH_STRIPE_RETURN_URL": f"{self.url}/returned",
        }

    def simulator(self) -> PartSpec:
        """Finds what it kept in its last run."""
        kept = self.place.secrets
        words = ["--port", str(kept.stripe_port), "--key", kept.stripe_key]
        words += ["--state", str(self.place.folder / "stripe.json")]
        words += ["--webhook-url", f"http://127.0.0.1:{kept.port}/api/billing/webhook"]
        words += ["--webhook-secret", kept.stripe_webhook_secret, "--webhook-pauses", PAUSES]
        for plan in self.plans.values():
            if plan.for_sale:
                words += ["--price", f"{plan.name}={plan.stripe_price}:{plan.price_cents}:{plan.currency}"]
        return PartSpec(
            key="stripe",
            name="Stripe (simulated)",
            command=(sys.executable, "-m", "zlh.simulators.stripe", *words),
        )

    async def pay(self, page: str) -> str:
        """Presses the button of a checkout page, as a browser would; where that leads. Raises RefusedError."""
        async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as browser:
            button = PAY.search((await browser.get(page)).text)
            if button is None:
                raise RefusedError(f"nothing can be paid at {page}")
            came = await browser.post(httpx.URL(page).join(unescape(button[1])))
        if came.status_code != 200 or str(came.url) != self.environment()["ZLH_STRIPE_SUCCESS_URL"]:
            raise RefusedError(f"paying led to {came.url}, which answers {came.status_code}")
        return str(came.url)
