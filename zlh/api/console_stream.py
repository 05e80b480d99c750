"""The console's websocket as the API document tells it: the gateway serves it itself, and so it is in no route table
(`zlh.gateway.console`)."""

from __future__ import annotations

from typing import Any, Final

from zlh.api.rights import security
from zlh.model.access import Permission, Scope

_WORDS: Final = """\
For every signed-in account. Somebody with whom the server was shared needs the permission `watch`, and `console` to
type. An API key needs the scope `console`.

The token comes as `Authorization`, as `access_token`, or in the first message, `{"auth": "<token>"}`, within a few
seconds. A later message of that form puts a fresh token in the place of one that runs out. Every other message from
the client is typed, a command to a line.

With `format=text` every message is one or more lines of the console. With `format=json` it is one line or one event:

* `{"seq", "line", "at"}`: `seq` rises; `at` is when the line came here, in Unix seconds. `after=<seq>` goes on behind
  that line, which loses nothing while the history reaches back so far.
* `{"event": "gap", "dropped"}`: so many lines are missing here; null where nobody knows how many.
* `{"event": "state", "upstream"}`: `connecting`, `connected` or `reconnecting`, the last with `code` and `reason`.
* `{"event": "token_expiring", "seconds"}`: a fresh token is due.
* `{"event": "throttled", "retryAfter", "lines", "message"}`: the last `lines` of what was sent were not typed.
* `{"event": "notice", "code", "message"}`: why something that was sent was not done.

After close code 1012 (restarting) or 1001 (no answer to a ping) a client comes again at once, after 1011 and 1013
with longer and longer pauses, after 1008 (too slow, or too much) with patience, after 4401 with a new token. 4403 and
4404 are final, as are 1002, 1007 and 1009 for a client that goes on as it did.
"""


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


CONSOLE: Final = {
    "get": {
        "summary": "Websocket: the console, lines out and commands in",
        "parameters": [
            {"name": "vmid", "in": "path", "required": True, "schema": {"type": "integer"}},
            _query("format", {"enum": ["text", "json"], "default": "text"}),
            _query("after", {"type": "integer"}),
            _query("access_token", {"type": "string"}),
        ],
        "security": security(Scope.CONSOLE),
        "description": _WORDS,
        "x-role": "customer",
        "x-permission": Permission.WATCH.value,
        "responses": {"101": {"description": "The websocket is open"}},
    }
}
