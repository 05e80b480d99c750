"""The pages that people see: plain, and without scripts."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

from zlh.simulators.agent.http import Response

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f9; color: #1c2330; font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 30rem; margin: 3rem auto; padding: 0 1rem; }
.test { display: inline-block; margin: 0 0 .75rem; padding: .1rem .5rem; border-radius: .25rem; background: #fff1d6;
  color: #7a4a00; font-size: .75rem; font-weight: 600; letter-spacing: .03em; text-transform: uppercase; }
.card { background: #fff; border: 1px solid #e1e5eb; border-radius: .75rem; padding: 1.5rem; margin-bottom: 1rem; }
h1 { font-size: 1.25rem; margin: 0 0 1rem; }
h2 { font-size: 1rem; margin: 0 0 .5rem; }
p { margin: 0 0 .75rem; }
.muted { color: #5b6675; font-size: .9rem; }
.price { font-size: 2rem; font-weight: 650; margin: 0 0 .25rem; }
.rate { font-size: 1.25rem; font-weight: 650; margin: 0 0 .25rem; }
table { width: 100%; border-collapse: collapse; margin: 0 0 1rem; }
td, th { padding: .4rem 0; border-bottom: 1px solid #eceff3; text-align: left; font-weight: normal; }
td + td, th + th { padding-left: .75rem; }
td:last-child, th:last-child { text-align: right; }
tr:last-child td { border-bottom: 0; }
tr.total td { font-weight: 650; }
.card > :last-child { margin-bottom: 0; }
a { color: #3f39b8; }
form { margin: 0 0 .6rem; }
button, a.button { display: block; width: 100%; padding: .7rem 1rem; border: 1px solid #cfd6df; border-radius: .5rem;
  background: #fff; color: #1c2330; font: inherit; font-weight: 550; text-align: center; text-decoration: none;
  cursor: pointer; }
button.main { background: #4b45d6; border-color: #4b45d6; color: #fff; }
button:hover, a.button:hover { filter: brightness(.96); }
button:focus-visible, a:focus-visible { outline: 3px solid #b9b6ff; outline-offset: 2px; }
.note { border-radius: .5rem; padding: .6rem .8rem; margin: 0 0 1rem; background: #fde8e8; color: #8a1c1c; }
.note.good { background: #e4f6ea; color: #14572c; }
"""


def page(title: str, body: str, status: int = 200) -> Response:
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f'<p class="test">Simulated, no money moves</p>{body}</main></body></html>'
    )
    return Response(status, text.encode(), "text/html; charset=utf-8", (("Cache-Control", "no-store"),))


def go(url: str) -> Response:
    """Look there now."""
    return Response(303, b"", "text/plain", (("Location", url),))


def button(action: str, words: str, *, main: bool = False) -> str:
    kind = ' class="main"' if main else ""
    return f'<form method="post" action="{escape(action)}"><button{kind}>{escape(words)}</button></form>'


def link(url: str, words: str) -> str:
    return f'<a class="button" href="{escape(url)}">{escape(words)}</a>'


def note(words: str, *, good: bool = False) -> str:
    kind = "note good" if good else "note"
    return f'<p class="{kind}" role="status">{escape(words)}</p>'


def day(moment: int) -> str:
    """12 March 2027."""
    at = datetime.fromtimestamp(moment, UTC)
    return f"{at.day} {at:%B %Y}"
