"""The billing portal: a page on which a customer ends or goes on with a subscription, and gives another card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zlh.simulators.stripe import names
from zlh.simulators.stripe.errors import Document, invalid
from zlh.simulators.stripe.form import Wish
from zlh.simulators.stripe.subscription import ENDED, period_of
from zlh.simulators.stripe.subscriptions import UPDATED

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

CONFIGURATION = "bpc_1simulated"


class Portal:
    def __init__(self, account: Account) -> None:
        self._account = account

    def create(self, wish: Wish) -> Document:
        customer = self._account.customers.living(wish.needed("customer"), "customer")
        back = wish.text("return_url")
        wish.ignore("configuration", "locale", "flow_data")
        wish.finish()
        if back and not back.startswith(("http://", "https://")):
            raise invalid("return_url", "Not a valid URL", "url_invalid")
        name = names.make("billing_portal.session")
        session = {
            "id": name,
            "object": "billing_portal.session",
            "configuration": CONFIGURATION,
            "created": self._account.clock.now(customer["test_clock"]),
            "customer": customer["id"],
            "flow": None,
            "livemode": False,
            "locale": None,
            "on_behalf_of": None,
            "return_url": back or None,
            "url": f"{self._account.url}/p/session/{name}",
        }
        return self._account.book.add(session)

    def retrieve(self, name: str) -> Document:
        return self._account.book.find("billing_portal.session", name)

    # What a person does

    def cancel(self, subscription: str) -> None:
        """At the end of the period. As in flexible billing mode, `cancel_at` says so, and `cancel_at_period_end`
        stays false."""
        owner = self._account.subscriptions.retrieve(subscription)
        if owner["status"] in ENDED:
            return
        with self._account.book.changing(owner, UPDATED):
            owner |= {"cancel_at": period_of(owner)[1], "canceled_at": self._account.now_of(owner)}
            details = {**owner["cancellation_details"], "reason": "cancellation_requested"}
            owner["cancellation_details"] = details

    def go_on(self, subscription: str) -> None:
        """It does not end after all."""
        owner = self._account.subscriptions.retrieve(subscription)
        if owner["status"] in ENDED:
            return
        with self._account.book.changing(owner, UPDATED):
            owner |= {"cancel_at": None, "cancel_at_period_end": False, "canceled_at": None}
            owner["cancellation_details"] = {**owner["cancellation_details"], "reason": None}

    def fix_card(self, customer: str) -> None:
        """A card that works, with which what is open is paid."""
        self._account.cards.enter(self._account.customers.living(customer))
        for invoice in self._account.invoices.owed(customer):
            self._account.invoices.collect(invoice, automatic=False)
