"""What is passed on to agents, over HTTP: what is asked of the agent, what the answer becomes, and what never gets
there."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pytest

from tests.api.agent_answers import ANSWERS
from tests.api.doors import address
from tests.api.hostile import example, example_query, query_fields
from tests.api.world import NODE, PAPER, Answer, World
from zlh.api import files, forwarding
from zlh.api.answers import Ok
from zlh.api.code_server import CODE_SERVER
from zlh.api.files import FILES
from zlh.api.mods import MODS
from zlh.api.routes.agents import AGENTS
from zlh.model.agent_calls import AgentAnswer, AgentCall, Feature
from zlh.model.containers import ContainerType
from zlh.model.errors import AgentProblemError, AgentUnsupportedError, ConflictError, ProblemError, UnavailableError
from zlh.store.audit import Entry, Wanted

ODD_NAME = "👩‍🚀 ~`!@#$^&*()[]{}'\";:<>?|=+, 50%off é e\u0301.txt"
FORWARDED = [route for route in AGENTS if route.path.startswith(("/api/game/", "/api/dev/"))]


@dataclass
class Home:
    """Ada's game and dev containers."""

    world: World
    token: str
    game: int
    dev: int

    async def ask(self, method: str, path: str, json: Any = None, query: dict[str, str] | None = None) -> Answer:
        """`path` is below the game container's address."""
        whole = f"/api/game/{self.game}/{path}" + (f"?{urlencode(query)}" if query else "")
        return await self.world.call(method, whole, self.token, json)

    @property
    def asked(self) -> list[AgentCall]:
        return [call[2] for call in self.world.fleet.calls if call[0] == "call"]

    async def recorded(self) -> Entry:
        """The newest entry of the audit record."""
        await self.world.services.people.audit.flushed()
        return (await self.world.services.people.audit.page(Wanted(limit=1)))[0]


@pytest.fixture
async def home(world: World) -> Home:
    ada, token = await world.account("ada")
    return Home(world, token, world.fleet.add(ada, PAPER).vmid, world.fleet.add(ada, NODE).vmid)


def test_each_type_has_what_it_can_have() -> None:
    paths = {ctype: {route.path for route in AGENTS if f"/{ctype.value}/" in route.path} for ctype in ContainerType}
    game, dev = (
        {path.split(">", 1)[1] for path in paths[ctype]} for ctype in (ContainerType.GAME, ContainerType.DEV)
    )
    assert game - dev == {"/players", "/mods", "/mods/search", "/mods/updates", "/mods/<mod_id>"}
    assert dev - game == {"/code-server", *(f"/code-server/{verb}" for verb in ("start", "stop", "restart"))}
    assert {"/files", "/files/search", "/console/command", "/console/history"} <= game & dev


async def test_a_container_of_the_other_type_is_not_there(home: Home) -> None:
    for route in FORWARDED:
        wrong = home.dev if route.path.startswith("/api/game/") else home.game
        path = address(route, wrong) + example_query(route)
        answer = await home.world.call(route.method, path, home.token, example(route) or None)
        assert (answer.status, answer.json["code"]) == (404, "not_found"), route.name
    assert home.world.fleet.calls == []


async def test_answers_are_as_the_document_says(home: Home) -> None:
    for route in AGENTS:
        vmid = home.dev if route.path.startswith("/api/dev/") else home.game
        path = address(route, vmid) + example_query(route)
        answer = await home.world.call(route.method, path, home.token, example(route) or None)
        assert answer.status == route.status, (route.name, answer.raw)
        if route.answer is None:
            assert answer.raw == b""
        else:
            route.answer.model_validate_json(answer.raw)
    probes = [call.probe for call in home.asked]
    assert {probe for probe in probes if probe} == set(forwarding.PROBES.values())


ASKED: list[tuple[str, str, dict[str, str], Any, tuple[Any, ...]]] = [
    ("GET", "files", {"path": "./a//b/"}, None, ("GET", "/files", {"path": "a/b"}, None)),
    ("GET", "files", {}, None, ("GET", "/files", {"path": ""}, None)),
    ("DELETE", "files", {"path": ODD_NAME}, None, ("DELETE", "/files", {"path": ODD_NAME}, None)),
    (
        "GET",
        "files/search",
        {"q": "é&x"},
        None,
        ("GET", "/files/search", {"path": "", "q": "é&x", "limit": "200"}, None),
    ),
    (
        "POST",
        "files/rename",
        {},
        {"from": "a/", "to": "b"},
        ("POST", "/files/rename", None, {"from": "a", "to": "b"}),
    ),
    (
        "POST",
        "files/move",
        {},
        {"from": "a", "to": "b", "replace": True, "odd": 1},
        ("POST", "/files/rename", None, {"from": "a", "to": "b", "replace": True}),
    ),
    (
        "POST",
        "files/compress",
        {},
        {"paths": ["a/./b", ODD_NAME], "to": "x.zip"},
        ("POST", "/files/compress", None, {"paths": ["a/b", ODD_NAME], "to": "x.zip"}),
    ),
    (
        "POST",
        "files/extract",
        {},
        {"path": "x.zip"},
        ("POST", "/files/extract", None, {"path": "x.zip", "to": ""}),
    ),
    (
        "POST",
        "files/chmod",
        {},
        {"path": "x", "mode": "0755"},
        ("POST", "/files/chmod", None, {"path": "x", "mode": "0755"}),
    ),
    (
        "POST",
        "mods",
        {},
        {"source": "modrinth", "id": "sodium"},
        ("POST", "/mods", None, {"source": "modrinth", "id": "sodium"}),
    ),
    ("PATCH", "mods/1", {}, {"enabled": False}, ("PATCH", "/mods/1", None, {"enabled": False})),
    ("GET", "console/history", {"lines": "5"}, None, ("GET", "/console/history", {"lines": "5"}, None)),
    (
        "POST",
        "console/command",
        {},
        {"command": " say hi "},
        ("POST", "/console/command", None, {"command": " say hi "}),
    ),
]


async def test_what_the_agent_is_asked(home: Home) -> None:
    for method, path, query, body, sent in ASKED:
        answer = await home.ask(method, path, body, query)
        assert answer.status < 300, (path, answer.raw)
        call = home.asked[-1]
        assert (call.method, call.path, call.query, call.body) == sent
        assert call.changes is (method != "GET")
    assert len(home.asked) == len(ASKED)


ELSEWHERE = ["..", "a/../b", "/etc", "a\\b", "a\x00b", "a\nb", "%2e%2e", "a%252fb", ".zlh-uploads", "é" * 128]


async def test_a_path_that_can_be_read_in_two_ways_never_gets_there(home: Home) -> None:
    """What is no UTF-8 would be replaced, and of two the first be taken: another file than some other reader sees."""
    for method, query in itertools.product(
        ("GET", "DELETE"), ("path=a%ff", "path=%ed%a0%80", "path=a&path=b", "path&path=b")
    ):
        answer = await home.ask(method, f"files?{query}")
        assert (answer.status, answer.json["code"]) == (400, "invalid"), (method, query)
    assert home.asked == []
    assert (await home.ask("DELETE", "files?path=%EF%BF%BD&x=1&x=2")).status == 204
    assert home.asked[0].query == {"path": "\N{REPLACEMENT CHARACTER}"}


async def test_paths_that_lead_elsewhere_never_get_there(home: Home) -> None:
    for route, path in itertools.product(FORWARDED, ELSEWHERE):
        vmid = home.game if "/game/" in route.path else home.dev
        good = example(route)
        for name in good.keys() & {"path", "from", "to", "paths"}:
            spoiled = good | {name: [path] if name == "paths" else path}
            answer = await home.world.call(route.method, address(route, vmid), home.token, spoiled)
            assert (answer.status, answer.json["code"]) == (400, "invalid"), (route.name, name, path)
            assert {problem["field"].split(".")[0] for problem in answer.json["details"]} == {name}
        if "path" in query_fields(route):
            spoiled_query = urlencode({"q": "x", "path": path})
            answer = await home.world.call(route.method, f"{address(route, vmid)}?{spoiled_query}", home.token)
            assert (answer.status, answer.json["code"]) == (400, "invalid"), (route.name, path)
    assert home.world.fleet.calls == []


NONSENSE: list[tuple[str, dict[str, Any]]] = [
    ("files/directory", {"path": ""}),
    ("files/rename", {"from": ".", "to": "x"}),
    ("files/copy", {"from": "a", "to": "a/b"}),
    ("files/compress", {"paths": [], "to": "x.zip"}),
    ("files/compress", {"paths": ["."], "to": "x.zip"}),
    ("files/compress", {"paths": ["a"], "to": "x.rar"}),
    ("files/chmod", {"path": "x", "mode": "4755"}),
    ("files/chmod", {"path": "x", "mode": "rwx"}),
    ("mods", {"source": "modrinth"}),
    ("mods", {"source": "url", "url": "file:///etc/passwd"}),
    ("mods", {"source": "elsewhere", "id": "x"}),
    ("console/command", {"command": ""}),
    ("console/command", {"command": "a\nb"}),
    ("console/command", {"command": "x" * 5000}),
]


async def test_wishes_that_make_no_sense(home: Home) -> None:
    for path, body in NONSENSE:
        answer = await home.ask("POST", path, body)
        assert (answer.status, answer.json["code"]) == (400, "invalid"), (path, body)
    assert (await home.ask("PATCH", "mods/1", {})).status == 400
    assert home.world.fleet.calls == []


async def test_unfinished_uploads_are_not_shown(home: Home) -> None:
    listed = await home.ask("GET", "files")
    assert listed.json == {
        "path": "",
        "entries": [
            {
                "name": "world",
                "type": "directory",
                "size": 4096,
                "modified": "2026-01-02T03:04:05.000Z",
                "mode": "755",
            }
        ],
    }
    below = await home.ask("GET", "files", query={"path": "world"})
    assert [entry["name"] for entry in below.json["entries"]] == [".zlh-uploads", "world"], "only ours is hidden"
    found = [{"path": path, "name": "x", "type": "file", "size": 1} for path in (".zlh-uploads/x", "a/.zlh-uploads")]
    home.world.fleet.answers[Feature.FILE_SEARCH] = _json({"entries": found, "truncated": True})
    shown = (await home.ask("GET", "files/search", query={"q": "x"})).json
    assert ([entry["path"] for entry in shown["entries"]], shown["truncated"]) == (["a/.zlh-uploads"], True)


async def test_a_large_directory_is_read_while_others_have_their_turn(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def read(*given: Any, **named: Any) -> Any:
        threads.append(threading.get_ident())
        return real(*given, **named)

    real = forwarding.read
    monkeypatch.setattr(forwarding, "read", read)
    entries = [{"name": f"{number:05d}", "type": "file", "size": number} for number in range(3000)]
    home.world.fleet.answers[Feature.FILES] = _json({"path": "", "entries": entries})
    listed = (await home.ask("GET", "files")).json["entries"]
    assert [entry["size"] for entry in listed] == list(range(3000))
    home.world.fleet.answers[Feature.FILES] = _json({"path": "", "entries": entries[:3]})
    assert len((await home.ask("GET", "files")).json["entries"]) == 3
    assert threads[0] != threading.get_ident() == threads[1]
    home.world.fleet.answers[Feature.FILES] = _json({"path": "", "entries": [*entries, {"name": 1}]})
    assert (await home.ask("GET", "files")).json["code"] == "agent_unreachable"


@pytest.mark.parametrize("depth", [100, 400, 900])
async def test_an_answer_of_the_agents_own_making_may_be_deep(home: Home, depth: int) -> None:
    deep = b'{"a":' * depth + b"{}" + b"}" * depth
    home.world.fleet.answers[Feature.MODS] = AgentAnswer(200, deep)
    answer = await home.ask("GET", "mods/search", query={"q": "x"})
    assert answer.status in (200, 502)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (1_767_323_045.5, "2026-01-02T03:04:05.500Z"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
        ("2026-01-02T05:04:05+02:00", "2026-01-02T03:04:05.000Z"),
        (1e300, "9999-12-31T23:59:59.000Z"),
        (-5, "1970-01-01T00:00:00.000Z"),
        ("yesterday", None),
        (True, None),
        (None, None),
        ([], None),
    ],
)
def test_moments_are_told_in_one_way(told: object, shown: str | None) -> None:
    entry = {"name": "a", "type": "socket", "size": 1, "modified": told, "odd": {}}
    read = files.Entry.model_validate_json(orjson.dumps(entry))
    assert (read.modified, read.type) == (shown, "other")


def wrong_answers(row: forwarding.Forwarded) -> list[bytes]:
    """Nothing is read of an answer that only says that it was done."""
    if row.answer is Ok:
        return []
    if row.answer is forwarding.Anything:
        return [b"7", b"[]", b""]
    good = orjson.loads(ANSWERS[row.method, row.agent or f"/{row.path}"].body)
    spoiled = [good | {name: {"a": 1}} for name in good if name != "path"]
    return [b"[]", b"null", b"{}", b"", *map(orjson.dumps, spoiled)]


async def test_what_an_agent_says_wrongly_is_not_passed_on(home: Home) -> None:
    for row in (*FILES, *MODS, *CODE_SERVER):
        vmid, ctype = (home.game, "game") if ContainerType.GAME in row.ctypes else (home.dev, "dev")
        for body in wrong_answers(row):
            home.world.fleet.answers[row.feature] = AgentAnswer(200, body)
            sent = {"source": "modrinth", "id": "x"} if row.method == "POST" else None
            answer = await home.world.call(row.method, f"/api/{ctype}/{vmid}/{row.path}?q=x", home.token, sent)
            assert (answer.status, answer.json["code"]) == (502, "agent_unreachable"), (row.path, body)
            assert answer.json["details"] == ({"mayTakeEffect": True} if row.changes else None)


REFUSALS: list[tuple[ProblemError, str]] = [
    (AgentProblemError(404, "no such file", details={"path": "x"}), "agent_refused"),
    (AgentProblemError(507, "no space left"), "agent_refused"),
    (AgentUnsupportedError("too old", details={"feature": "files"}), "agent_unsupported"),
    (ConflictError("the container is off", code="host_offline"), "host_offline"),
    (UnavailableError("too many commands wait", retry_after=2.0), "unavailable"),
]


async def test_refusals_reach_the_customer(home: Home) -> None:
    for refusal, code in REFUSALS:
        home.world.fleet.refuse = refusal
        answer = await home.ask("GET", "files")
        told = {name: answer.json[name] for name in ("error", "code", "details")}
        said = {"error": refusal.message, "code": code, "details": refusal.details}
        assert (answer.status, told) == (refusal.status, said)
        assert ("Retry-After" in answer.headers) is (refusal.retry_after is not None)


async def test_the_agents_status_is_kept(home: Home) -> None:
    answers = home.world.fleet.answers
    for status, body, shown in ((200, b"", b'{"ok":true}'), (202, b"[7]", b'{"ok":true}'), (204, b"", b"")):
        answers[Feature.FILES] = AgentAnswer(status, body)
        answer = await home.ask("POST", "files/copy", {"from": "a", "to": "b"})
        assert (answer.status, answer.raw) == (status, shown)


async def test_the_record_says_what_was_done(home: Home) -> None:
    for method, path, query, body, action, facts in (
        ("POST", "files/move", {}, {"from": "a", "to": "b"}, "file.move", {"path": "a", "to": "b"}),
        (
            "POST",
            "files/compress",
            {},
            {"paths": ["a", "b"], "to": "c.zip"},
            "file.compress",
            {"paths": ["a", "b"], "to": "c.zip"},
        ),
        ("DELETE", "files", {"path": "a/b"}, None, "file.delete", {"path": "a/b"}),
        ("PATCH", "mods/1", {}, {"enabled": False}, "mod.change", {"mod": "1", "enabled": False}),
        ("DELETE", "mods/1", {}, None, "mod.remove", {"mod": "1"}),
        # What is typed may be a password; an address may hold a token.
        ("POST", "console/command", {}, {"command": "login hunter2"}, "console.command", {}),
        ("POST", "mods", {}, {"source": "url", "url": "https://x/?token=y"}, "mod.install", {"source": "url"}),
    ):
        await home.ask(method, path, body, query)
        entry = await home.recorded()
        assert (entry.action, entry.vmid, dict(entry.details)) == (action, home.game, facts)


async def test_a_key_used_twice_does_it_once(home: Home) -> None:
    body = {"source": "modrinth", "id": "sodium"}
    path = f"/api/game/{home.game}/mods"
    answers = [await home.world.call("POST", path, home.token, body, Idempotency_Key="once") for _ in range(2)]
    assert [(answer.status, answer.json) for answer in answers] == [(202, {"id": "sodium"})] * 2
    assert len(home.asked) == 1


async def test_ids_of_mods_are_passed_on_as_they_are(home: Home) -> None:
    home.world.fleet.answers[Feature.MODS] = AgentAnswer(204, b"")
    mod_ids = ["fabric-api", "Mod [Fabric] 1.2 (x) 100%.jar", "a%2b", "é"]
    for mod_id in mod_ids:
        assert (await home.ask("DELETE", f"mods/{quote(mod_id, safe='')}")).status == 204
    assert [call.path for call in home.asked] == [f"/mods/{mod_id}" for mod_id in mod_ids]


async def test_ids_that_lead_elsewhere_are_nobodys(home: Home) -> None:
    for mod_id in ["%2e%2e", "a%5Cb", "%252e%252e", "a%00", "%0a", "x" * 256, "a%252fb"]:
        assert (await home.ask("DELETE", f"mods/{mod_id}")).status == 404, mod_id
    assert home.world.fleet.calls == []


async def test_another_version_takes_an_agent_that_knows_of_them(home: Home) -> None:
    await home.ask("PATCH", "mods/1", {"enabled": True})
    await home.ask("PATCH", "mods/1", {"enabled": True, "version": "2"})
    assert [call.feature for call in home.asked] == [Feature.MODS, Feature.MOD_UPDATES]


async def test_players_come_from_the_cache_unless_asked(home: Home) -> None:
    answer = await home.ask("GET", "players")
    assert answer.json == {"online": 1, "max": 20, "names": ["alice"], "observedAt": "2026-01-02T03:04:05.000Z"}
    await home.ask("GET", "players", query={"fresh": "true"})
    assert home.world.fleet.calls == [("players", home.game, False), ("players", home.game, True)]


async def test_the_agents_version_and_update(home: Home) -> None:
    base = f"/api/servers/{home.dev}/agent"
    version = await home.world.call("GET", f"{base}/version", home.token)
    assert version.json == {"version": None, "commit": None, "updateAvailable": None}
    update = await home.world.call("GET", f"{base}/update", home.token)
    assert update.json == {"current": "1.4.2", "latest": "1.5.0", "available": True, "state": "idle"}
    assert (await home.world.call("POST", f"{base}/update", home.token)).json == {"ok": True}
    assert [(call.method, call.path, call.feature) for call in home.asked] == [
        ("GET", "/update", Feature.UPDATE),
        ("POST", "/update", Feature.UPDATE),
    ]
    assert (await home.recorded()).action == "agent.update"


def _json(value: object) -> AgentAnswer:
    return AgentAnswer(200, orjson.dumps(value))
