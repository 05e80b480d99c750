"""What a good agent answers to each call that is passed on, by method and path. It has one mod, whose id is 1."""

from __future__ import annotations

import orjson

from zlh.model.agent_calls import AgentAnswer, AgentCall
from zlh.model.errors import AgentProblemError

OK = AgentAnswer(200, b'{"ok":true}')
ACCEPTED = AgentAnswer(202, b'{"ok":true}')
GONE = AgentAnswer(204, b"")

MOD = {"id": "1", "name": "Sodium", "version": "0.6.13", "enabled": True, "source": "modrinth"}


def _json(value: object, status: int = 200) -> AgentAnswer:
    return AgentAnswer(status, orjson.dumps(value))


ANSWERS = {
    ("GET", "/players"): _json({"online": 1, "max": 20, "names": ["alice"]}),
    ("POST", "/console/command"): ACCEPTED,
    ("GET", "/console/history"): _json({"lines": ["first", "second"]}),
    ("GET", "/files"): _json(
        {
            "path": "",
            "entries": [
                {"name": ".zlh-uploads", "type": "directory", "size": 0, "modified": 1, "mode": "700"},
                {"name": "world", "type": "directory", "size": 4096, "modified": 1_767_323_045, "mode": "755"},
            ],
        }
    ),
    ("DELETE", "/files"): GONE,
    ("GET", "/files/search"): _json({"entries": [], "truncated": False}),
    ("POST", "/files/directory"): AgentAnswer(201, b'{"ok":true}'),
    ("POST", "/files/rename"): OK,
    ("POST", "/files/copy"): OK,
    ("POST", "/files/compress"): OK,
    ("POST", "/files/extract"): OK,
    ("POST", "/files/chmod"): OK,
    ("GET", "/mods"): _json({"mods": [MOD]}),
    ("POST", "/mods"): _json({"id": "sodium"}, 202),
    ("GET", "/mods/search"): _json({"mods": [MOD]}),
    ("GET", "/mods/updates"): _json({"updates": [{"id": "1", "current": "0.6.13", "latest": "0.7.0"}]}),
    ("PATCH", "/mods/1"): _json(MOD),
    ("DELETE", "/mods/1"): GONE,
    ("GET", "/dev/code-server"): _json({"state": "running", "port": 8443, "version": "4.104.0"}),
    ("POST", "/dev/code-server/start"): ACCEPTED,
    ("POST", "/dev/code-server/stop"): ACCEPTED,
    ("POST", "/dev/code-server/restart"): ACCEPTED,
    ("GET", "/update"): _json({"current": "1.4.2", "latest": "1.5.0", "available": True, "state": "idle"}),
    ("POST", "/update"): ACCEPTED,
}


def good_answer(call: AgentCall) -> AgentAnswer:
    """An empty object for what is not known here. Raises AgentProblemError(404) for any other mod."""
    answer = ANSWERS.get((call.method, call.path))
    if answer is None and call.path.startswith("/mods/"):
        raise AgentProblemError(404, "no such mod")
    return answer or AgentAnswer(200, b"{}")
