"""Billing made from settings."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from zlh.accounts import AccountServices
from zlh.billing import BillingServices, Machine, Selling, open_billing
from zlh.containers import Fleet
from zlh.drivers.stripe import StripeDriver
from zlh.model.plans import Plan
from zlh.parts import portal_url
from zlh.settings import Settings
from zlh.store import Database


def billing_services(
    settings: Settings,
    stack: AsyncExitStack,
    database: Database,
    people: AccountServices,
    fleet: Fleet,
    plans: Mapping[str, Plan],
) -> BillingServices:
    """Plans are sold where the settings have a key of Stripe's; what is to be closed goes on `stack`."""
    return open_billing(
        database,
        plans,
        lambda: [Machine.of(cell) for cell in fleet.projection.cells()],
        _selling(settings, stack),
        told=people.access.account_changed,
        note=people.audit.note,
        mail=settings.mail.mode != "off",
        portal_url=portal_url(settings),
    )


def _selling(settings: Settings, stack: AsyncExitStack) -> Selling | None:
    chosen = settings.stripe
    if not chosen.secret_key:
        return None
    driver = StripeDriver(chosen.url, chosen.secret_key, settings.edge.installation)
    stack.push_async_callback(driver.aclose)
    portal = portal_url(settings).rstrip("/")
    return Selling(
        stripe=driver,
        webhook_secrets=tuple(chosen.webhook_secret.replace(",", " ").split()),
        installation=settings.edge.installation,
        success_url=chosen.success_url or f"{portal}/billing?checkout=success",
        cancel_url=chosen.cancel_url or f"{portal}/billing?checkout=cancelled",
        return_url=chosen.return_url or f"{portal}/billing",
    )
