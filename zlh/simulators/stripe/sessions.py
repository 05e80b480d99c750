"""Checkout sessions: a person is sent to a page, and either pays there or does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zlh.simulators.stripe import lists, names
from zlh.simulators.stripe.cards import Card
from zlh.simulators.stripe.errors import Document, Wrong, invalid
from zlh.simulators.stripe.form import Wish
from zlh.simulators.stripe.periods import DAY

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

SHORTEST, LONGEST = 1800, DAY
PLACE_OF_ID = "{CHECKOUT_SESSION_ID}"
IGNORED = (
    "allow_promotion_codes",
    "automatic_tax",
    "billing_address_collection",
    "consent_collection",
    "custom_text",
    "customer_update",
    "locale",
    "payment_method_collection",
    "submit_type",
    "tax_id_collection",
)


class Sessions:
    def __init__(self, account: Account) -> None:
        self._account = account
        account.alarms.rule("checkout.session", _due, self._expire)

    # Requests

    def create(self, wish: Wish) -> Document:
        mode = wish.choice("mode", "payment", "setup", "subscription", default="payment")
        ui = wish.choice("ui_mode", "hosted_page", "embedded_page", "elements", "form", default="hosted_page")
        success, cancel = wish.text("success_url"), wish.text("cancel_url")
        customer = self._customer(wish)
        now = self._account.clock.now(customer["test_clock"] if customer else None)
        email, reference = wish.text("customer_email"), wish.text("client_reference_id")
        expires = self._expiry(wish, now)
        chosen = self._items(wish)
        data = wish.inside("subscription_data")
        data_metadata, words = data.metadata({}), data.text("description")
        data.ignore("billing_mode", "proration_behavior")
        metadata = wish.metadata({})
        wish.ignore(*IGNORED)
        wish.finish()
        if mode != "subscription" or ui != "hosted_page":
            raise Wrong(400, "Only `mode=subscription` with `ui_mode=hosted_page` is simulated.", param="mode")
        if not success:
            raise invalid("success_url", "Missing required param: success_url.", "parameter_missing")
        for param, url in (("success_url", success), ("cancel_url", cancel)):
            if url and not url.startswith(("http://", "https://")):
                raise invalid(param, "Not a valid URL", "url_invalid")
        if reference and len(reference) > 200:
            raise invalid("client_reference_id", "Invalid string: must be at most 200 characters")
        if customer is not None and email:
            raise invalid("customer_email", "You may only specify one of these parameters: customer, customer_email.")
        if customer is not None:
            self._account.updates.fits(customer, [price for price, _ in chosen], "line_items")
        name = names.make("checkout.session")
        session = _session(name, chosen, now) | {
            "cancel_url": cancel or None,
            "client_reference_id": reference or None,
            "customer": customer["id"] if customer else None,
            "customer_email": email or None,
            "expires_at": now + LONGEST if expires is None else expires,
            "metadata": metadata,
            "success_url": success,
            "url": f"{self._account.url}/c/pay/{name}",
        }
        secret = self._account.book.secret(name)
        secret |= {
            "items": [[price["id"], quantity] for price, quantity in chosen],
            "metadata": data_metadata,
            "description": words,
        }
        return self._account.book.add(session)

    def retrieve(self, name: str) -> Document:
        return self._account.book.find("checkout.session", name)

    def listing(self, wish: Wish) -> Document:
        low, high = lists.within(wish)
        customer, subscription = wish.text("customer"), wish.text("subscription")
        status = wish.choice("status", "open", "complete", "expired", default="")
        everything = self._account.book.all("checkout.session")
        rows = [
            row
            for row in everything
            if (customer is None or row["customer"] == customer)
            and (subscription is None or row["subscription"] == subscription)
            and (not status or row["status"] == status)
            and low <= row["created"] <= high
        ]
        return lists.page(rows, wish, "/v1/checkout/sessions", everything)

    def expire_now(self, name: str, wish: Wish) -> Document:
        session = self.retrieve(name)
        wish.finish()
        if session["status"] != "open":
            words = 'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a '
            raise Wrong(400, words + f"status of {session['status']}.")
        self._expire(session)
        return session

    def list_line_items(self, name: str, wish: Wish) -> Document:
        rows = self.line_items(name)["data"][::-1]
        return lists.page(rows, wish, f"/v1/checkout/sessions/{name}/line_items", rows)

    def line_items(self, name: str) -> Document:
        items = self._account.book.secret(self.retrieve(name)["id"])["items"]
        rows = [self._line_item(self._account.prices.retrieve(price), quantity) for price, quantity in items]
        return lists.listed(rows, f"/v1/checkout/sessions/{name}/line_items")

    def _line_item(self, price: Document, quantity: int) -> Document:
        amount = price["unit_amount"] * quantity
        return {
            "id": names.make("item"),
            "object": "item",
            "amount_discount": 0,
            "amount_subtotal": amount,
            "amount_tax": 0,
            "amount_total": amount,
            "currency": price["currency"],
            "description": self._account.tabs.product(price),
            "price": price,
            "quantity": quantity,
        }

    def _customer(self, wish: Wish) -> Document | None:
        name = wish.text("customer")
        return None if name is None else self._account.customers.living(name, "customer")

    def _expiry(self, wish: Wish, now: int) -> int | None:
        moment = wish.integer("expires_at")
        if moment is None:
            return None
        ahead = moment - now
        # A little less than half an hour is let pass, as clocks differ.
        if not SHORTEST - 60 <= ahead <= LONGEST + 60:
            words = (
                "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation."
            )
            raise invalid("expires_at", words)
        return moment

    def _items(self, wish: Wish) -> list[tuple[Document, int]]:
        chosen = []
        for one in wish.each("line_items"):
            price = self._account.prices.recurring(one.needed("price"), one.param("price"))
            quantity = one.integer("quantity")
            if quantity is None:
                raise invalid(one.param("quantity"), "Quantity is required. Add `quantity` to `line_items[0]`.")
            chosen.append((price, quantity))
        if not chosen:
            raise invalid("line_items", "Missing required param: line_items.", "parameter_missing")
        return chosen

    # What a person does

    def pay(self, name: str, card: Card = Card.WORKS) -> Document:
        """With a card like that, which becomes the customer's. One that does not work changes nothing; raises
        Wrong(402). Raises Wrong(400) where the session is not open."""
        session = self.retrieve(name)
        if session["status"] != "open":
            raise Wrong(400, f"This Checkout Session is {session['status']}.")
        if card is not Card.WORKS:
            raise Wrong(402, "Your card was declined.", kind="card_error", code="card_declined")
        secret = self._account.book.secret(name)
        customer = self._payer(session)
        chosen = [(self._account.prices.retrieve(price), quantity) for price, quantity in secret["items"]]
        self._account.updates.fits(customer, [price for price, _ in chosen], "line_items")
        self._account.cards.enter(customer)
        made = self._account.subscriptions.make(customer, chosen, secret["metadata"], secret["description"])
        with self._account.book.changing(session, None):
            session |= {
                "customer": customer["id"],
                "customer_details": {
                    "address": None,
                    "email": customer["email"],
                    "name": customer["name"],
                    "phone": None,
                    "tax_exempt": "none",
                    "tax_ids": [],
                },
                "invoice": made["latest_invoice"],
                "payment_status": "paid",
                "status": "complete",
                "subscription": made["id"],
                "url": None,
            }
        self._account.book.tell("checkout.session.completed", session)
        return session

    def after(self, session: Document) -> str:
        """Where the person goes afterwards."""
        return str(session["success_url"]).replace(PLACE_OF_ID, session["id"])

    def _payer(self, session: Document) -> Document:
        if session["customer"] is not None:
            return self._account.customers.living(session["customer"], "customer")
        email = session["customer_email"] or "somebody@example.com"
        return self._account.customers.make({"email": email}, {})

    def _expire(self, session: Document) -> None:
        with self._account.book.changing(session, None):
            session |= {"status": "expired", "url": None}
        self._account.book.tell("checkout.session.expired", session)


def _due(session: Document) -> int | None:
    return session["expires_at"] if session["status"] == "open" else None


def _session(name: str, chosen: list[tuple[Document, int]], now: int) -> Document:
    total = sum(price["unit_amount"] * quantity for price, quantity in chosen)
    return {
        "id": name,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": None,
        "amount_subtotal": total,
        "amount_total": total,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": None,
        "client_secret": None,
        "consent": None,
        "consent_collection": None,
        "created": now,
        "currency": chosen[0][0]["currency"],
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer_creation": None,
        "customer_details": None,
        "discounts": None,
        "invoice": None,
        "invoice_creation": None,
        "livemode": False,
        "locale": None,
        "mode": "subscription",
        "origin_context": None,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": "always",
        "payment_method_configuration_details": None,
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "permissions": None,
        "phone_number_collection": {"enabled": False},
        "recovered_from": None,
        "saved_payment_method_options": None,
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": None,
        "subscription": None,
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "wallet_options": None,
    }
