"""The billing portal's page, and that of an invoice."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from zlh.simulators.agent.http import Response
from zlh.simulators.stripe.cards import Card
from zlh.simulators.stripe.errors import Document, missing
from zlh.simulators.stripe.lines import money
from zlh.simulators.stripe.pages import button, day, go, link, note, page
from zlh.simulators.stripe.subscription import ENDED, period_of

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

PATH, INVOICE_PATH = "/p/session/", "/i/"
CARDS = {
    Card.NONE: "No card",
    Card.WORKS: "Visa ending in 4242, it works",
    Card.DECLINED: "Visa ending in 4242, it is declined",
    Card.REQUIRES_ACTION: "Visa ending in 4242, the bank asks for a confirmation",
}
STATUSES = {
    "active": "Active",
    "canceled": "Ended",
    "incomplete": "Waits for its first payment",
    "incomplete_expired": "Never paid",
    "past_due": "Payment overdue",
    "paused": "Paused",
    "unpaid": "Unpaid",
}


class PortalPage:
    def __init__(self, account: Account) -> None:
        self._account = account

    def answer(self, method: str, path: str) -> Response:
        """`path` is what follows PATH: `<session>/<action>/<subscription>`. Raises Wrong(404)."""
        name, _, rest = path.partition("/")
        session = self._account.portal.retrieve(name)
        if method == "POST":
            action, _, subscription = rest.partition("/")
            self._act(session, action, subscription)
            return go(f"{PATH}{name}")
        return self._show(session)

    def _act(self, session: Document, action: str, subscription: str) -> None:
        portal, customer = self._account.portal, session["customer"]
        if action in ("cancel", "resume"):
            owner = self._account.subscriptions.retrieve(subscription)
            if owner["customer"] != customer:
                raise missing("subscription", subscription)
            (portal.cancel if action == "cancel" else portal.go_on)(subscription)
        elif action == "card":
            portal.fix_card(customer)
        elif action == "break-card":
            self._account.cards.mark(customer, Card.DECLINED)

    def _show(self, session: Document) -> Response:
        customer = session["customer"]
        address = f"{PATH}{session['id']}"
        owners = self._account.book.all("subscription", customer=customer)[::-1]
        shown = "".join(self._subscription(owner, address) for owner in owners)
        card = self._account.cards.of(customer)
        body = (
            "<h1>Your billing</h1>"
            + (shown or '<section class="card"><p>You have no subscription.</p></section>')
            + f'<section class="card"><h2>Payment method</h2><p>{escape(CARDS[card])}</p>'
            + button(f"{address}/card", "Use a new card that works", main=card is not Card.WORKS)
            + (button(f"{address}/break-card", "Let the card be declined from now on") if card is Card.WORKS else "")
            + "</section>"
            + self._invoices(customer)
            + (link(session["return_url"], "Back") if session["return_url"] else "")
        )
        return page("Billing", body)

    def _subscription(self, owner: Document, address: str) -> str:
        item = owner["items"]["data"][0]
        name = self._account.tabs.product(item["price"])
        interval = item["price"]["recurring"]["interval"]
        price = f"{money(item['price']['unit_amount'] * item['quantity'], owner['currency'])} per {interval}"
        ended, end = owner["status"] in ENDED, period_of(owner)[1]
        if ended:
            when = f"Ended on {day(owner['ended_at'])}"
        elif owner["cancel_at"] is not None:
            when = f"Ends on {day(owner['cancel_at'])}"
        else:
            when = f"Renews on {day(end)}"
        actions = ""
        if not ended and owner["cancel_at"] is None:
            actions = button(f"{address}/cancel/{owner['id']}", "Cancel at the end of the period")
        elif not ended:
            actions = button(f"{address}/resume/{owner['id']}", "Do not cancel", main=True)
        status = STATUSES[owner["status"]]
        overdue = note("The last payment failed.") if owner["status"] in ("past_due", "unpaid") else ""
        return (
            f'<section class="card"><h2>{escape(name)}</h2>{overdue}'
            f'<p class="rate">{escape(price)}</p><p>{escape(status)}. {escape(when)}.</p>{actions}</section>'
        )

    def _invoices(self, customer: str) -> str:
        rows = [row for row in self._account.book.all("invoice", customer=customer) if row["status"] != "draft"]
        if not rows:
            return ""
        lines = "".join(
            f'<tr><td><a href="{INVOICE_PATH}{escape(row["id"])}">{escape(day(row["created"]))}</a></td>'
            f"<td>{escape(money(row['total'], row['currency']))}</td>"
            f"<td>{escape(row['status'])}</td></tr>"
            for row in rows[::-1][:12]
        )
        return f'<section class="card"><h2>Invoices</h2><table>{lines}</table></section>'


class InvoicePage:
    def __init__(self, account: Account) -> None:
        self._account = account

    def answer(self, method: str, name: str) -> Response:
        """Raises Wrong(404)."""
        name, _, action = name.partition("/")
        invoice = self._account.invoices.retrieve(name)
        if method == "POST" and action == "pay" and invoice["status"] == "open":
            self._account.cards.enter(self._account.customers.living(invoice["customer"]))
            self._account.invoices.collect(invoice, automatic=False)
            return go(f"{INVOICE_PATH}{name}")
        rows = "".join(
            f"<tr><td>{escape(line['description'])}</td>"
            f"<td>{escape(money(line['amount'], line['currency']))}</td></tr>"
            for line in invoice["lines"]["data"]
        )
        total = money(invoice["total"], invoice["currency"])
        due = money(invoice["amount_remaining"], invoice["currency"])
        body = (
            f'<section class="card"><h1>Invoice {escape(invoice["number"] or "(draft)")}</h1>'
            f"<p>{escape(invoice['status'].capitalize())}, {escape(day(invoice['created']))}</p>"
            f'<table>{rows}<tr class="total"><td>Total</td><td>{escape(total)}</td></tr>'
            f'<tr class="total"><td>Due</td><td>{escape(due)}</td></tr></table>'
            + (button(f"{INVOICE_PATH}{name}/pay", f"Pay {due}", main=True) if invoice["status"] == "open" else "")
            + "</section>"
        )
        return page("Invoice", body)
