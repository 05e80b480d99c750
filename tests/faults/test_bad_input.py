"""Whatever comes in at any route: a clear 4xx in the error envelope, soon, and nothing is changed by it.

The routes and what they take come from the API's own OpenAPI document, so that a new route is under fire at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import trio

from tests.faults.scenes import a_game, provisioned, with_customer
from tests.faults.world import PASSWORD, World
from tests.plain import PLAIN

pytestmark = pytest.mark.faults

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
ANSWER_SECONDS = 5.0
NESTED: Any = {"a": [{"b": [[[{"c": None}]]]}] * 20}
DEEP = b"[" * 50_000
TOO_LARGE = b"x" * (2 << 20)
SURROGATE = "\ud800"

NO_ADDRESS = ("-1", "0", "99999999999999999999", "word", "%00", "%FF", "%F0%9F%92%A9", "1e3", "5000;x", "..%2F5000")
NO_DOCUMENT = (
    *(b"{", b"null", b"[]", b"7", b'"x"', b"\xff\xfe", b"NaN", b"{}{}", b"{'a': 1}", DEEP, b'{"a":' * 5_000),
    *(b'{"a": "\\ud800"}', b"\x00", b"a=1&b=2"),
)

# Per JSON type: what is never a value of it in a query, where everything is text, and in a document. "null" and ""
# are left out: they may stand for "not given".
NO_QUERY = {
    "integer": ("-1", "x", "1.5", "9" * 30, "NaN", "%00", "[]"),
    "number": ("-1", "x", "NaN", "inf", "1e9", "%00"),
    "boolean": ("x", "2", "-1", "%00", "[]"),
    "string": ("%00", "a" * 1000, "%FF", "a%20b"),
}
# Words to search for may be anything but long.
WORDS = ("a" * 1000,)
# Paths may have any name that a file has.
PATHS = ("%00", "a" * 1000, "..", "/etc/passwd", "a%5Cb", "%252e%252e", ".zlh-uploads")
BY_NAME = {"query": WORDS, "q": WORDS, "path": PATHS}
NO_VALUE: dict[str, tuple[Any, ...]] = {
    "string": (7, True, 1.5, [], {}, NESTED, "x" * 100_000, SURROGATE),
    "integer": ("5", True, 1.5, -1, 0, 10**30, 1e308, [], {}, NESTED, "five"),
    "boolean": ("true", 7, [], {}, NESTED),
    "array": (7, "x", {}, NESTED, [0], [70_000], ["a"], [[1]], [True], list(range(1, 100)), [1, 1], [10**30]),
}

# A document that would be accepted but for the one field that is spoiled.
GOOD: dict[str, dict[str, Any]] = {
    "/api/auth/register": {"email": "new@example.com", "username": "newcomer", "password": PASSWORD},
    "/api/auth/login": {"identifier": "customer", "password": PASSWORD},
    "/api/auth/refresh": {"refreshToken": "none"},
    "/api/auth/me": {"displayName": "Customer"},
    "/api/auth/password/forgot": {"email": "customer@example.com"},
    "/api/auth/password/reset": {"token": "none", "password": PASSWORD},
    "/api/auth/password": {"currentPassword": "none of these", "newPassword": PASSWORD},
    "/api/auth/email/verify": {"token": "none"},
    "/api/auth/email": {"email": "new@example.com", "password": "none of these"},
    "/api/auth/totp": {"password": "none of these", "totp": "000000"},
    "/api/auth/totp/confirm": {"totp": "000000"},
    "/api/auth/totp/recovery-codes": {"password": "none of these", "totp": "000000"},
    "/api/auth/api-keys": {"name": "never made", "scopes": ["servers:read"]},
    "/api/instances": a_game("never made"),
    "/api/containers/orphans/sweep": {"dryRun": True},
    "/api/servers/{vmid}/upgrade": {"memory": 2048},
    "/api/servers/{vmid}/name": {"name": "never-given"},
    "/api/servers/{vmid}/shares": {"email": "friend@example.com", "permissions": ["power"]},
    "/api/servers/{vmid}/shares/{share_id}": {"permissions": ["power"]},
    "/api/servers/{vmid}/schedules": {"name": "never made", "action": "backup", "cron": "0 4 * * *"},
    "/api/servers/{vmid}/schedules/{schedule_id}": {"name": "never changed"},
    # Whatever else is right: there is no such container.
    "/api/operators/rollouts": {"vmids": [999_999_999], "dryRun": True},
    "/api/operators/edge/reconcile": {"dryRun": True},
    "/api/dev/{vmid}/ports": {"port": 3000, "visibility": "private", "label": "never opened"},
    "/api/dev/{vmid}/ports/{port}": {"visibility": "private", "label": "never changed"},
    "/api/dev/{vmid}/code-server/settings": {"idleStopMinutes": 30},
    "/api/game/{vmid}/backups": {"name": "never made"},
    "/api/dev/{vmid}/backups": {"name": "never made"},
    "/api/game/{vmid}/backups/{backup_id}": {"name": "never given", "locked": True},
    "/api/dev/{vmid}/backups/{backup_id}": {"name": "never given", "locked": True},
    "/api/game/{vmid}/backups/{backup_id}/restore": {"stop": True, "start": True},
    "/api/dev/{vmid}/backups/{backup_id}/restore": {"stop": True, "start": True},
    **{
        f"/api/{kind}/{{vmid}}/{path}": good
        for kind in ("game", "dev")
        for path, good in {
            "console/command": {"command": "say never typed"},
            "files/directory": {"path": "never-made"},
            "files/rename": {"from": "none", "to": "other"},
            "files/move": {"from": "none", "to": "other", "replace": True},
            "files/copy": {"from": "none", "to": "other"},
            "files/compress": {"paths": ["none"], "to": "never-made.zip"},
            "files/extract": {"path": "none.zip", "to": "never-made"},
            "files/chmod": {"path": "none", "mode": "644"},
        }.items()
    },
    "/api/game/{vmid}/mods": {"source": "url", "id": "none", "url": "https://127.0.0.1/none.jar"},
    "/api/game/{vmid}/mods/{mod_id}": {"enabled": True, "version": "none"},
    "/api/operators/accounts/{account_id}/suspend": {"reason": "never carried out"},
    "/api/operators/accounts/{account_id}/disable": {"reason": "never carried out"},
    "/api/operators/accounts/{account_id}/role": {"role": "customer"},
    "/api/operators/accounts/{account_id}/act": {"reason": "never carried out"},
    # Nobody can have it.
    "/api/operators/accounts/{account_id}/plan": {"plan": "none-such", "reason": "never carried out"},
    "/api/billing/checkout": {"plan": "none-such"},
    "/api/billing/plan": {"plan": "none-such", "when": "now"},
    "/api/billing/reconcile": {"dryRun": True},
    "/api/servers/{vmid}/retrieval": {"minutes": 30},
}

OPERATORS = ("/api/operators", "/api/containers/orphans", "/api/billing/reconcile")
STAND_INS = {"{account_id}": "1", "{port}": "3000"}
# What the gateway moves itself.
TRANSFER = re.compile(r"/files/(content|uploads?)($|/)|/download$")


@dataclass(frozen=True)
class Spoiled:
    """One request that must be refused; `status` where only that one will do."""

    method: str
    path: str
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int | None = None


async def test_bad_input_is_refused_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    async with with_customer() as (world, pid):
        vmid = await provisioned(world, "unimpressed")
        operator = await world.make_operator(role="admin")
        document = await world.call("GET", "/api/openapi.json")
        before = await everything(world)
        spoiled = list(every_request(document, vmid, world.token, operator))
        found: list[str] = []
        async with httpx.AsyncClient(
            base_url=world.api, timeout=ANSWER_SECONDS, trust_env=False, verify=PLAIN
        ) as client:
            for request in spoiled:
                problem = await refused(client, request)
                if problem:
                    found.append(f"{request.method} {request.path[:90]} {request.content[:90]!r}: {problem}")
        with capsys.disabled():
            print(f"\n{len(spoiled)} bad requests, {len(found)} not refused as they should be")
        assert not found, "\n".join(found)
        assert await everything(world) == before
        await world.until_servers(lambda servers: servers[vmid]["status"] == "running")
        await world.kill(pid)


async def everything(world: World) -> dict[str, Any]:
    """What a customer has, without what changes by itself."""
    rows = (await world.call("GET", "/api/instances"))["rows"]
    for row in rows:
        del row["agentLastSeen"]
    return {
        "rows": rows,
        "operations": await world.call("GET", "/api/operations"),
        "account": await world.call("GET", "/api/auth/me"),
        "containers": {vmid: found["running"] for vmid, found in (await world.cluster.containers()).items()},
    }


def every_request(document: dict[str, Any], vmid: int, customer: str, operator: str) -> Iterator[Spoiled]:
    for template, operations in document["paths"].items():
        path = re.sub(r"{\w+}", lambda name: STAND_INS.get(name[0], "none"), template.replace("{vmid}", str(vmid)))
        known = {method.upper(): described for method, described in operations.items()}
        for method in (*METHODS, "BREW"):
            if method not in known:
                yield Spoiled(method, path, headers=_as(operator))
        for method, described in known.items():
            open_to_all = not described.get("security")
            caller = operator if template.startswith(OPERATORS) else customer
            if not open_to_all:
                yield from _uninvited(method, path)
            if method != "GET":
                # Files may be large; what is wrong with this one is said of something else.
                yield Spoiled(method, path, TOO_LARGE, _as(caller), None if TRANSFER.search(template) else 413)
            yield from _addresses(method, template, vmid, operator)
            yield from _queries(method, path, described, caller)
            yield from _documents(method, template, path, described, document, caller)
            if "101" in described["responses"]:
                yield Spoiled(method, path, headers=_as(caller))
    yield from _heads(customer)


def _as(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _uninvited(method: str, path: str) -> Iterator[Spoiled]:
    # A console takes its token as the first message, too: without an upgrade it is refused before that.
    for headers in ({}, _as("x"), _as("x" * 8000), {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}):
        yield Spoiled(method, path, headers=headers)


def _addresses(method: str, template: str, vmid: int, operator: str) -> Iterator[Spoiled]:
    for name in ("vmid", "operation_id", "path"):
        if "{" + name + "}" in template:
            for value in NO_ADDRESS:
                yield Spoiled(method, template.replace("{" + name + "}", value), headers=_as(operator))


def _queries(method: str, path: str, described: dict[str, Any], caller: str) -> Iterator[Spoiled]:
    for parameter in described.get("parameters", ()):
        if parameter["in"] == "query" and "101" not in described["responses"]:
            never = BY_NAME.get(parameter["name"]) or NO_QUERY[_type(parameter["schema"])]
            # Of a transfer the container is looked at first, and the one here is no dev container.
            status = 404 if TRANSFER.search(path) and path.startswith("/api/dev/") else 400
            for value in never:
                yield Spoiled(method, f"{path}?{parameter['name']}={value}", headers=_as(caller), status=status)


def _documents(
    method: str, template: str, path: str, described: dict[str, Any], document: dict[str, Any], caller: str
) -> Iterator[Spoiled]:
    taken = described.get("requestBody", {"content": {}})["content"]
    if "application/json" not in taken:
        return
    reference = taken["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    good = GOOD[template]
    for content in NO_DOCUMENT:
        yield Spoiled(method, path, content, _as(caller), 400)
    for name in schema.get("required", ()):
        yield _with(method, path, {key: value for key, value in good.items() if key != name}, caller)
    for name, described_field in schema["properties"].items():
        kind = _type(described_field)
        if kind is not None:
            for value in NO_VALUE[kind]:
                if (name == "paths" and value == ["a"]) or (name == "amountDue" and type(value) is int):
                    # Of those, the value would be good: a change of plan may give something back.
                    continue
                yield _with(method, path, {**good, name: value}, caller)


def _with(method: str, path: str, document: dict[str, Any], caller: str) -> Spoiled:
    return Spoiled(method, path, json.dumps(document).encode(), _as(caller), 400)


def _heads(customer: str) -> Iterator[Spoiled]:
    """Nothing of a single route's: the address, the headers, the whole."""
    for path in (
        "/",
        "/api",
        "/api/none",
        "/api/agent/5000/start",
        "/api/servers/%",
        "/api/" + "x" * 9000,
        "//",
        "/%00",
    ):
        yield Spoiled("GET", path, headers=_as(customer))
    yield Spoiled("GET", "/api/servers", headers={**_as(customer), "X-Long": "x" * 70_000})
    yield Spoiled("GET", "/api/servers", headers={**_as(customer), **{f"X-{n}": "1" for n in range(500)}})
    for key in ("x" * 10_000, "a key of\twords", "\u00e9"):
        yield Spoiled("POST", "/api/instances", b"{", {**_as(customer), "Idempotency-Key": key}, 400)


def _type(schema: dict[str, Any]) -> Any:
    """The JSON type; None where everything is allowed. What may be null is its other type."""
    for choice in schema.get("anyOf", (schema,)):
        if choice.get("type", "string" if "$ref" in choice else None) not in (None, "null"):
            return choice.get("type", "string")
    return None


async def refused(client: httpx.AsyncClient, request: Spoiled) -> str:
    """What is wrong with the answer; empty where it is a refusal as it should be."""
    headers = {name.encode(): value.encode() for name, value in request.headers.items()}
    try:
        with trio.fail_after(2 * ANSWER_SECONDS):
            answer = await client.request(request.method, request.path, content=request.content, headers=headers)
    except (httpx.HTTPError, trio.TooSlowError) as error:
        return repr(error)
    if not 400 <= answer.status_code < 500:
        return f"answered {answer.status_code} {answer.text[:200]}"
    if request.status is not None and answer.status_code != request.status:
        return f"answered {answer.status_code} instead of {request.status}: {answer.text[:200]}"
    if request.method == "HEAD":
        return (
            "" if not answer.content and "X-Request-Id" in answer.headers else "a HEAD with a body, or without an id"
        )
    try:
        envelope = answer.json()
    except ValueError:
        return f"no JSON: {answer.text[:200]}"
    if set(envelope) != {"error", "code", "details", "requestId"} or not envelope["error"] or not envelope["code"]:
        return f"not the envelope: {answer.text[:200]}"
    if envelope["requestId"] != answer.headers.get("X-Request-Id"):
        return "the request's id is another one in the header"
    return ""
