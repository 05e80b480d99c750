"""Stripe, by its own library on Trio: customers, checkout, subscriptions, webhooks. No card data ever comes here."""

from zlh.drivers.stripe.driver import StripeDriver
from zlh.drivers.stripe.webhook import WebhookRefused, read_webhook

__all__ = ["StripeDriver", "WebhookRefused", "read_webhook"]
