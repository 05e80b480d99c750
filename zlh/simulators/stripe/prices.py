"""Products and prices. They are there from the beginning; nothing changes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zlh.simulators.stripe import lists
from zlh.simulators.stripe.errors import Document, Wrong, invalid
from zlh.simulators.stripe.form import Wish

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account


@dataclass(frozen=True)
class Price:
    """`id` is Stripe's id for it, `lookup` the key and the name by which people know it; the amount is in minor
    units."""

    id: str
    unit_amount: int
    currency: str = "eur"
    interval: str = "month"
    lookup: str | None = None
    active: bool = True

    @classmethod
    def parse(cls, text: str) -> Price:
        """`lookup=id:amount:currency[:interval]`; raises ValueError."""
        lookup, _, rest = text.rpartition("=")
        name, amount, currency, *interval = rest.split(":")
        return cls(name, int(amount), currency, interval[0] if interval else "month", lookup or None)


class Prices:
    def __init__(self, account: Account) -> None:
        self._account = account

    def plant(self, price: Price) -> None:
        """There from now on; one of that id is replaced."""
        known = self._account.book.tables["price"].get(price.id)
        created = self._account.clock.now() if known is None else known["created"]
        product = f"prod_{price.id.removeprefix('price_')}"
        name = (price.lookup or price.id.removeprefix("price_")).replace("_", " ").replace("-", " ").title()
        self._account.book.add(_product(product, name, price.id, created))
        self._account.book.add(_price(price, product, created))

    def recurring(self, name: str, param: str) -> Document:
        """One that a subscription can have. Raises Wrong(400)."""
        price = self._account.book.find("price", name, param)
        if not price["active"]:
            raise invalid(param, "The price specified is inactive. This field only accepts active prices.")
        return price

    def retrieve(self, name: str) -> Document:
        return self._account.book.find("price", name)

    def listing(self, wish: Wish) -> Document:
        keys, active, product = wish.texts("lookup_keys"), wish.boolean("active"), wish.text("product")
        currency = wish.text("currency")
        rows = [
            price
            for price in self._account.book.all("price")
            if (not keys or price["lookup_key"] in keys)
            and (active is None or price["active"] is active)
            and (product is None or price["product"] == product)
            and (currency is None or price["currency"] == currency)
        ]
        return lists.page(rows, wish, "/v1/prices", self._account.book.all("price"))

    def product(self, name: str) -> Document:
        return self._account.book.find("product", name)

    def products(self, wish: Wish) -> Document:
        active = wish.boolean("active")
        everything = self._account.book.all("product")
        rows = [product for product in everything if active is None or product["active"] is active]
        return lists.page(rows, wish, "/v1/products", everything)


def same_interval(prices: list[Document], param: str) -> tuple[str, int]:
    """Raises Wrong(400) where they differ."""
    intervals = {(price["recurring"]["interval"], price["recurring"]["interval_count"]) for price in prices}
    if len(intervals) != 1:
        raise Wrong(400, "All prices on a subscription must have the same recurring interval here.", param=param)
    return next(iter(intervals))


def _product(name: str, title: str, price: str, created: int) -> Document:
    return {
        "id": name,
        "object": "product",
        "active": True,
        "created": created,
        "default_price": price,
        "description": None,
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": {},
        "name": title,
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "type": "service",
        "unit_label": None,
        "updated": created,
        "url": None,
    }


def _price(price: Price, product: str, created: int) -> Document:
    return {
        "id": price.id,
        "object": "price",
        "active": price.active,
        "billing_scheme": "per_unit",
        "created": created,
        "currency": price.currency,
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": price.lookup,
        "metadata": {},
        "nickname": None,
        "product": product,
        "recurring": {
            "interval": price.interval,
            "interval_count": 1,
            "meter": None,
            "trial_period_days": None,
            "usage_type": "licensed",
        },
        "tax_behavior": "unspecified",
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring",
        "unit_amount": price.unit_amount,
        "unit_amount_decimal": str(price.unit_amount),
    }
