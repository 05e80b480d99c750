"""What is asked where."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zlh.simulators.stripe.errors import Document, Wrong

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

Route = Callable[..., Document]


def _of(noun: str, verb: str) -> Route:
    """A method of one of the account's nouns, which takes the parameters last."""

    def route(account: Account, wish: Any, *parts: str) -> Document:
        document: Document = getattr(getattr(account, noun), verb)(*parts, wish)
        return document

    return route


def _plain(noun: str, verb: str) -> Route:
    """One that takes no parameters."""

    def route(account: Account, wish: Any, *parts: str) -> Document:
        wish.finish()
        document: Document = getattr(getattr(account, noun), verb)(*parts)
        return document

    return route


TABLE: tuple[tuple[str, str, Route], ...] = (
    ("POST", "/v1/billing_portal/sessions", _of("portal", "create")),
    ("GET", "/v1/charges", _of("payments", "charges")),
    ("GET", "/v1/charges/{}", _plain("payments", "charge_of")),
    ("GET", "/v1/checkout/sessions", _of("sessions", "listing")),
    ("POST", "/v1/checkout/sessions", _of("sessions", "create")),
    ("GET", "/v1/checkout/sessions/{}", _plain("sessions", "retrieve")),
    ("POST", "/v1/checkout/sessions/{}/expire", _of("sessions", "expire_now")),
    ("GET", "/v1/checkout/sessions/{}/line_items", _of("sessions", "list_line_items")),
    ("GET", "/v1/customers", _of("customers", "listing")),
    ("POST", "/v1/customers", _of("customers", "create")),
    ("GET", "/v1/customers/{}", _plain("customers", "retrieve")),
    ("POST", "/v1/customers/{}", _of("customers", "update")),
    ("DELETE", "/v1/customers/{}", _plain("customers", "delete")),
    ("GET", "/v1/disputes", _of("disputes", "listing")),
    ("GET", "/v1/disputes/{}", _plain("disputes", "retrieve")),
    ("GET", "/v1/events", _of("events", "listing")),
    ("GET", "/v1/events/{}", _plain("events", "retrieve")),
    ("GET", "/v1/invoice_payments", _of("payments", "listing")),
    ("GET", "/v1/invoices", _of("invoices", "listing")),
    ("POST", "/v1/invoices/create_preview", _of("preview", "create")),
    ("GET", "/v1/invoices/{}", _plain("invoices", "retrieve")),
    ("GET", "/v1/invoices/{}/lines", _of("invoices", "lines")),
    ("POST", "/v1/invoices/{}/finalize", _of("invoices", "finalize_now")),
    ("POST", "/v1/invoices/{}/pay", _of("invoices", "pay")),
    ("POST", "/v1/invoices/{}/void", _of("invoices", "void_now")),
    ("GET", "/v1/payment_intents/{}", _plain("payments", "intent_of")),
    ("GET", "/v1/payment_methods/{}", _plain("cards", "retrieve")),
    ("GET", "/v1/prices", _of("prices", "listing")),
    ("GET", "/v1/prices/{}", _plain("prices", "retrieve")),
    ("GET", "/v1/products", _of("prices", "products")),
    ("GET", "/v1/products/{}", _plain("prices", "product")),
    ("GET", "/v1/subscription_schedules", _of("schedules", "listing")),
    ("POST", "/v1/subscription_schedules", _of("schedules", "create")),
    ("GET", "/v1/subscription_schedules/{}", _plain("schedules", "retrieve")),
    ("POST", "/v1/subscription_schedules/{}", _of("schedules", "update")),
    ("POST", "/v1/subscription_schedules/{}/release", _of("schedules", "release")),
    ("GET", "/v1/subscriptions", _of("subscriptions", "listing")),
    ("POST", "/v1/subscriptions", _of("updates", "create")),
    ("GET", "/v1/subscriptions/{}", _plain("subscriptions", "retrieve")),
    ("POST", "/v1/subscriptions/{}", _of("updates", "update")),
    ("DELETE", "/v1/subscriptions/{}", _of("updates", "cancel")),
    ("POST", "/v1/subscriptions/{}/pause", _of("suspension", "pause")),
    ("POST", "/v1/subscriptions/{}/resume", _of("suspension", "resume")),
    ("GET", "/v1/test_helpers/test_clocks", _of("clocks", "listing")),
    ("POST", "/v1/test_helpers/test_clocks", _of("clocks", "create")),
    ("GET", "/v1/test_helpers/test_clocks/{}", _plain("clocks", "retrieve")),
    ("DELETE", "/v1/test_helpers/test_clocks/{}", _plain("clocks", "delete")),
    ("POST", "/v1/test_helpers/test_clocks/{}/advance", _of("clocks", "advance")),
)
COMPILED = [(method, re.compile(path.replace("{}", "([^/]+)")), route) for method, path, route in TABLE]


def find(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    """Raises Wrong(404)."""
    for known, pattern, route in COMPILED:
        match = pattern.fullmatch(path) if known == method else None
        if match is not None:
            return route, match.groups()
    words = f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at "
    raise Wrong(404, words + "https://support.stripe.com/.")
