"""What somebody might send who means harm, or whose program is broken; and where each route would take it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import sqlalchemy as sa

from tests.api.world import PASSWORD, World
from zlh.api.routing import ADDRESS_PART, Route
from zlh.store import tables

MARK = "zlh-injected"
"""In every text that tries to become something else: a header, a line of the log, a tag."""

TEXTS = (
    "' OR '1'='1' --",
    f"x'; DROP TABLE accounts; -- {MARK}",
    "1); DELETE FROM sessions; --",
    "%' UNION SELECT password_hash FROM accounts --",
    "\\'; SELECT pg_sleep(30); --",
    "$$; COPY accounts TO '/tmp/x'; $$",
    f"a\r\nSet-Cookie: {MARK}=1",
    f"a\nBcc: {MARK}@example.com\n\nhello",
    f"ok\n2026-01-01 00:00:00 ERROR {MARK}",
    f"\x1b[2J\x1b[31m{MARK}",
    f"<script>alert('{MARK}')</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}} ${7*7} #{7*7} <%= 7*7 %> %(x)s {0.__class__}",
    "%s%s%s%n %d %x",
    "../../../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/dev/null",
    "file:///etc/passwd",
    "http://127.0.0.1:1/",
    "a/b?c=d#e&f",
    "; cat /etc/passwd | `id` $(id)",
    "a\x00b",
    "\ufeffbom",
    "\u202egnp.exe",
    "a\u200bb",
    "a" + "\u0301" * 500,
    "\U0001f4a9" * 40,
    "\ufdfa" * 20,
    "x" * 5000,
    " \t\n",
    "null",
    "-1",
    "1e400",
    "NaN",
    "__proto__",
)


def raw_bodies(good: bytes) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """(name, body, header fields); `good` is what the route would be content with."""
    text = good.decode()
    first, second = quote(text), gzip.compress(good)
    yield "lone surrogate", text.replace('": "', '": "\\ud800').encode(), {}
    yield "surrogates the wrong way round", text.replace('": "', '": "\\udc00\\ud800').encode(), {}
    yield "a surrogate in UTF-8", text.encode().replace(b'": "', b'": "\xed\xa0\x80'), {}
    yield "overlong UTF-8", text.encode().replace(b'": "', b'": "\xc0\xaf'), {}
    yield "NUL", text.replace('": "', '": "\\u0000').encode(), {}
    yield "a real NUL", text.encode().replace(b'": "', b'": "\x00'), {}
    yield "almost a MiB", text.replace('": "', '": "' + "x" * 500_000, 1).encode(), {}
    yield "more than a MiB", text.replace('": "', '": "' + "x" * 1_100_000, 1).encode(), {}
    yield "deep arrays", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}
    yield "deep objects", b'{"a":' * 50_000 + b"1" + b"}" * 50_000, {}
    yield "a huge number", b'{"a": 1e400, "memory": 1e400, "memoryMiB": 1e400, "dryRun": 1e400}', {}
    yield "many digits", b'{"memory": ' + b"9" * 100_000 + b', "a": ' + b"9" * 100_000 + b"}", {}
    yield "not a number", b'{"memory": NaN, "memoryMiB": Infinity}', {}
    yield "every key twice", text.replace("{", '{"x": 1, "x": 2, ' if len(text) > 2 else '{"x": 1', 1).encode(), {}
    yield "BOM", b"\xef\xbb\xbf" + good, {}
    yield "UTF-16", text.encode("utf-16"), {"Content-Type": "application/json; charset=utf-16"}
    yield "another charset", text.encode("latin-1", "replace"), {"Content-Type": "application/json; charset=ibm850"}
    yield "a form", first.encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    yield "a form of parts", b"--x\r\n\r\n" + good, {"Content-Type": "multipart/form-data; boundary=x"}
    yield "packed", second, {"Content-Encoding": "gzip"}
    yield "said to be packed", good, {"Content-Encoding": "gzip"}
    yield "many keys", b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(40_000)) + b"}", {}
    yield "two documents", good + good, {}
    yield "cut off", good[:-1], {}


def address(route: Route, values: dict[str, str]) -> str:
    """The route's address with these parameters; those that nobody names are "1"."""
    return ADDRESS_PART.sub(lambda match: values.get(match[1], "1"), route.path)


def example(route: Route) -> dict[str, Any]:
    """A body that has the right shape; whether it is wanted is another question."""
    if route.body is None:
        return {}
    schema = route.body.model_json_schema(by_alias=True)
    made: dict[str, Any] = _instance("", schema, schema.get("$defs", {}))
    return made


def example_query(route: Route) -> str:
    """What the route cannot do without, "?" and all."""
    if route.query is None:
        return ""
    schema = route.query.model_json_schema(by_alias=True)
    needed = {name: _instance(name, schema["properties"][name], {}) for name in schema.get("required", ())}
    return f"?{urlencode(needed)}" if needed else ""


def query_fields(route: Route) -> list[str]:
    if route.query is None:
        return []
    return [info.alias or name for name, info in route.query.model_fields.items()]


def _instance(name: str, schema: dict[str, Any], defs: dict[str, Any]) -> Any:
    if "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
    for options in (schema.get("anyOf"), schema.get("allOf")):
        if options:
            return _instance(name, options[0], defs)
    if "examples" in schema:
        return schema["examples"][0]
    if "enum" in schema or "const" in schema:
        choices = schema.get("enum") or [schema["const"]]
        # Not every permission can be given.
        return "power" if "power" in choices else choices[0]
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {key: _instance(key, inner, defs) for key, inner in properties.items()}
        case "array":
            return [_instance(name, schema.get("items", {}), defs)]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
        case _:
            return _text(name)


def _text(name: str) -> str:
    lower = name.lower()
    if "email" in lower:
        return "somebody@example.com"
    if "password" in lower:
        return PASSWORD
    if lower == "cron":
        return "0 4 * * *"
    if lower == "timezone":
        return "Europe/Berlin"
    if lower.endswith("at"):
        return "2035-01-01T00:00:00Z"
    return "something"


NOT_COMPARED = {"audit", "idempotency_keys"}
"""Tables that a refused request may write to: that it came is recorded."""


async def everything(world: World) -> dict[str, list[Any]]:
    """All rows of all tables, except those that record what was asked."""

    def read(connection: sa.Connection) -> dict[str, list[Any]]:
        return {
            table.name: sorted(map(repr, connection.execute(sa.select(table))))
            for table in tables.metadata.sorted_tables
            if table.name not in NOT_COMPARED
        }

    return await world.services.database.run(read)


def combinations(route: Route) -> Iterator[tuple[str, str]]:
    """(field of the body, text): each with each where the field is a text, and one where it is something else."""
    for field, value in example(route).items():
        for text in TEXTS if isinstance(value, str | list) else TEXTS[:1]:
            yield field, text
