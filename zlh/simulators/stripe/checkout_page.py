"""The page of a checkout session: what is bought, and the buttons."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from zlh.simulators.agent.http import Response
from zlh.simulators.stripe.cards import Card
from zlh.simulators.stripe.errors import Document, Wrong
from zlh.simulators.stripe.lines import money
from zlh.simulators.stripe.pages import button, go, link, note, page

if TYPE_CHECKING:
    from zlh.simulators.stripe.account import Account

PATH = "/c/pay/"


class CheckoutPage:
    def __init__(self, account: Account) -> None:
        self._account = account

    def answer(self, method: str, path: str, said: str) -> Response:
        """`path` is what follows PATH; `said` is the note that a redirect carries. Raises Wrong."""
        name, _, action = path.partition("/")
        session = self._account.sessions.retrieve(name)
        if method == "POST" and session["status"] == "open":
            return self._act(session, action)
        return self._show(session, said)

    def _act(self, session: Document, action: str) -> Response:
        card = Card.DECLINED if action == "decline" else Card.WORKS
        try:
            self._account.sessions.pay(session["id"], card)
        except Wrong as wrong:
            said = "declined" if wrong.status == 402 else "impossible"
            return go(f"{PATH}{session['id']}?said={said}")
        return go(self._account.sessions.after(session))

    def _show(self, session: Document, said: str) -> Response:
        if session["status"] != "open":
            return self._closed(session)
        items = self._account.sessions.line_items(session["id"])["data"]
        interval = items[0]["price"]["recurring"]["interval"]
        total = money(session["amount_total"], session["currency"])
        rows = "".join(
            f"<tr><td>{escape(item['description'])}{_times(item['quantity'])}</td>"
            f"<td>{escape(money(item['amount_total'], item['currency']))}</td></tr>"
            for item in items
        )
        notes = {
            "declined": note("Your card was declined. Try a different card."),
            "impossible": note("That cannot be bought: there is another subscription, or it is not sold any more."),
        }
        email = self._email(session)
        address = f"{PATH}{session['id']}"
        body = (
            f'{notes.get(said, "")}<section class="card"><h1>Subscribe to {escape(items[0]["description"])}</h1>'
            f'<p class="price">{escape(total)}</p><p class="muted">per {escape(interval)}, until you cancel</p>'
            f'<table>{rows}<tr class="total"><td>Due today</td><td>{escape(total)}</td></tr></table>'
            + (f'<p class="muted">Receipts go to {escape(email)}</p>' if email else "")
            + button(f"{address}/pay", "Pay", main=True)
            + button(f"{address}/decline", "Pay with a card that is declined")
            + (link(session["cancel_url"], "Cancel") if session["cancel_url"] else "")
            + "</section>"
        )
        return page("Checkout", body)

    def _closed(self, session: Document) -> Response:
        words = "This has been paid." if session["status"] == "complete" else "This checkout has expired."
        target = self._account.sessions.after(session) if session["status"] == "complete" else session["cancel_url"]
        body = f'<section class="card"><h1>{escape(words)}</h1>{link(target, "Go back") if target else ""}</section>'
        return page("Checkout", body)

    def _email(self, session: Document) -> str | None:
        if session["customer"] is None:
            return session["customer_email"]  # type: ignore[no-any-return]
        return self._account.customers.retrieve(session["customer"]).get("email")


def _times(quantity: int) -> str:
    return "" if quantity == 1 else f" (x{quantity})"
