"""The small pages that stand in for a customer's program: it is off, it starts, nobody is signed in, and so on.

They work without scripts: what is awaited is looked for by loading the page again.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

from zlh.ide.places import Place

_TEXT = files("zlh.ide").joinpath("page.html").read_text("utf-8")
_TEMPLATE = Template(_TEXT)
_STYLE = re.search(r"<style>(.*?)</style>", _TEXT, re.DOTALL)
assert _STYLE is not None
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE[1].encode()).digest()).decode()

POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
).encode()
"""The Content-Security-Policy of every page: nothing runs, nothing is loaded, nobody frames it."""

START_PATH = b"/.zlh/start"
"""Where a page's button leads, below the place; the program in the container cannot have this address."""


@dataclass(frozen=True, slots=True)
class Page:
    """`refresh` is in seconds. `start`: the page has a button that starts what is off; `link` is (address, words)."""

    status: int
    title: str
    text: str
    refresh: int | None = None
    start: str = ""
    link: tuple[str, str] | None = None

    def render(self, place: Place) -> bytes:
        values = {
            "title": escape(self.title),
            "text": escape(self.text),
            "refresh": "" if self.refresh is None else f'<meta http-equiv="refresh" content="{self.refresh}">',
            "action": self._action(place),
            "place": escape(_named(place)),
        }
        return _TEMPLATE.substitute(values).encode()

    def _action(self, place: Place) -> str:
        if self.start:
            address = escape((place.prefix + START_PATH).decode())
            return f'<form method="post" action="{address}"><button>{escape(self.start)}</button></form>'
        if self.link is not None:
            address, words = (escape(each) for each in self.link)
            return f'<p class="link"><a class="button" rel="noreferrer" href="{address}">{words}</a></p>'
        # Nothing to do but to wait: a bar says that the page does.
        return '<div class="waiting"></div>' if self.refresh is not None else ""


def _named(place: Place) -> str:
    return f"Container {place.vmid}" + ("" if place.port is None else f", port {place.port}")


def signed_out(portal_url: str) -> Page:
    link = (portal_url, "Go to the Portal") if portal_url else None
    text = "It is private, or your way in has ended. Open it from the Portal."
    return Page(401, "You are not signed in here", text, link=link)


def not_permitted(message: str) -> Page:
    return Page(403, "This is not open to you", f"{message[:1].upper()}{message[1:]}.")


def host_off(may_start: bool) -> Page:
    text = "The container is switched off. "
    if may_start:
        return Page(503, "The container is off", text + "It takes a moment to start.", start="Start the container")
    return Page(503, "The container is off", text + "Somebody who may start it has to do that first.", refresh=15)


def host_starting() -> Page:
    return Page(503, "The container is starting", "This page opens by itself when it is ready.", refresh=2)


def host_stopping() -> Page:
    return Page(503, "The container is stopping", "It can be started again when it has stopped.", refresh=3)


def host_making() -> Page:
    return Page(503, "The container is being made", "This page opens by itself when it is ready.", refresh=5)


def suspended() -> Page:
    return Page(403, "The container is suspended", "Its owner's account is suspended, so nothing of it can be used.")


def deleting() -> Page:
    return Page(404, "The container is being deleted", "There is nothing here any more.")


def ide_stopped() -> Page:
    text = "The container runs, its IDE does not. It takes a moment to start."
    return Page(503, "The IDE is stopped", text, start="Start the IDE")


def ide_failed() -> Page:
    return Page(503, "The IDE has failed", "Its agent says that it did not start.", start="Try to start it again")


def ide_starting() -> Page:
    return Page(503, "The IDE is starting", "This page opens by itself when it is ready.", refresh=2)


def ide_silent() -> Page:
    text = (
        "The container runs, and its agent says that the IDE does too, but nothing answers yet. "
        "This page tries again. If it stays like this, restart the IDE in the Portal."
    )
    return Page(502, "The IDE does not answer", text, refresh=2)


def unreachable() -> Page:
    return Page(502, "The container does not answer", "It may be starting; this page tries again.", refresh=2)


def port_silent(port: int) -> Page:
    text = f"The container runs, but no program in it answers on port {port}. Start yours; this page tries again."
    return Page(502, f"Nothing answers on port {port}", text, refresh=2)
