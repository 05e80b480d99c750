"""The agent's HTTP contract: which request means what."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from zlh.model.observed import AgentState
from zlh.simulators.agent.backups import Backups
from zlh.simulators.agent.console import Console
from zlh.simulators.agent.content import Content
from zlh.simulators.agent.faults import FaultName, Faults
from zlh.simulators.agent.files import Files
from zlh.simulators.agent.http import Refusal, Request, Response, json_response
from zlh.simulators.agent.machine import Machine
from zlh.simulators.agent.memory import Memory
from zlh.simulators.agent.mods import Mods
from zlh.simulators.agent.software import CodeServer, SelfUpdate

MAX_PLAYERS = 20
HEALTHY = json_response({"ok": True})
# What an agent of any age knows.
ALWAYS = ("/health", "/status", "/config", "/start", "/stop", "/restart", "/console/stream")

Route = Callable[[Request], Awaitable[Response | None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that an agent consists of."""

    memory: Memory
    machine: Machine
    console: Console
    faults: Faults
    files: Files
    mods: Mods
    backups: Backups
    code_server: CodeServer
    self_update: SelfUpdate


def ok(status: int = 200) -> Response:
    return json_response({"ok": True}, status)


class Routes:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._flips = 0
        self._content = Content(parts.files)
        self._table: dict[tuple[str, str], Route] = {
            ("GET", "/health"): self._health,
            ("GET", "/ready"): self._ready,
            ("GET", "/status"): self._status,
            ("GET", "/version"): self._version,
            ("GET", "/update"): self._update,
            ("POST", "/update"): self._begin_update,
            ("GET", "/players"): self._players,
            ("POST", "/config"): self._configure,
            ("POST", "/start"): self._power,
            ("POST", "/stop"): self._power,
            ("POST", "/restart"): self._power,
            ("POST", "/kill"): self._power,
            ("GET", "/console/stream"): self._console,
            ("POST", "/console/command"): self._command,
            ("GET", "/console/history"): self._history,
            ("GET", "/files"): self._list_files,
            ("DELETE", "/files"): self._delete_file,
            ("GET", "/files/search"): self._search_files,
            ("GET", "/files/content"): self._read_file,
            ("HEAD", "/files/content"): self._read_file,
            ("PUT", "/files/content"): self._write_file,
            ("PATCH", "/files/content"): self._append_file,
            ("POST", "/files/directory"): self._change_files,
            ("POST", "/files/rename"): self._change_files,
            ("POST", "/files/copy"): self._change_files,
            ("POST", "/files/compress"): self._change_files,
            ("POST", "/files/extract"): self._change_files,
            ("POST", "/files/chmod"): self._change_files,
            ("GET", "/mods"): self._list_mods,
            ("POST", "/mods"): self._add_mod,
            ("GET", "/mods/search"): self._search_mods,
            ("GET", "/mods/updates"): self._mod_updates,
            ("PATCH", "/mods/{}"): self._change_mod,
            ("DELETE", "/mods/{}"): self._remove_mod,
            ("GET", "/backups"): self._list_backups,
            ("POST", "/backups"): self._create_backup,
            ("POST", "/backups/{}/restore"): self._restore_backup,
            ("PATCH", "/backups/{}"): self._change_backup,
            ("DELETE", "/backups/{}"): self._delete_backup,
            ("GET", "/backups/{}/download"): self._download_backup,
            ("GET", "/dev/code-server"): self._code_server,
            ("POST", "/dev/code-server/start"): self._change_code_server,
            ("POST", "/dev/code-server/stop"): self._change_code_server,
            ("POST", "/dev/code-server/restart"): self._change_code_server,
        }

    async def answer(self, request: Request) -> Response | None:
        """Raises Refusal: 401 for a wrong token, 404 for what this agent does not know."""
        if (request.method, request.path) == ("GET", "/metrics"):
            return self._metrics()
        given = request.headers.get("authorization", "")
        if not secrets.compare_digest(given, f"Bearer {self._parts.memory.token}"):
            raise Refusal(401, "the token is not accepted")
        route = self._table.get((request.method, request.path)) or self._table.get(
            (request.method, _shape(request.path))
        )
        if route is None or (self._parts.faults.get(FaultName.OLD_VERSION) and request.path not in ALWAYS):
            raise Refusal(404, "no such endpoint")
        return await route(request)

    async def _health(self, _: Request) -> Response:
        return HEALTHY

    async def _ready(self, _: Request) -> Response:
        lying = self._parts.faults.get(FaultName.LYING)
        if lying:
            self._flips += 1
            ready = lying.flip and self._flips % 2 == 0
            return json_response({"ready": ready, "reason": "the port does not answer"}, 200 if ready else 503)
        state = self._parts.machine.state
        if state is not AgentState.RUNNING:
            return json_response({"ready": False, "reason": f"the software is {state}"}, 503)
        if self._is_dev() and self._parts.code_server.missing:
            return json_response({"ready": False, "reason": "the IDE does not run"}, 503)
        return json_response({"ready": True})

    async def _status(self, _: Request) -> Response:
        machine = self._parts.machine
        running = machine.state is AgentState.RUNNING
        status: dict[str, Any] = {
            "state": AgentState.RUNNING if self._parts.faults.get(FaultName.LYING) else machine.state,
            "crashCount": self._parts.memory.crash_count,
            "cpuPercent": 12.5 if running else 0.0,
            "memoryMb": self._parts.memory.config.get("memory_mb", 0) // 2 if running else 0,
            "diskMb": 512 if self._parts.memory.installed else 0,
        }
        if machine.install_step is not None:
            status["installStep"] = machine.install_step
        if machine.error is not None:
            status["error"] = machine.error
        if machine.running_since is not None:
            status["uptimeSeconds"] = int(trio.current_time() - machine.running_since)
        return json_response(status)

    def _metrics(self) -> Response:
        """For Prometheus, which has no token of ours."""
        lines = [
            f"zlh_agent_running {int(self._parts.machine.state is AgentState.RUNNING)}",
            f"zlh_agent_crashes {self._parts.memory.crash_count}",
            f"zlh_agent_players {len(self._parts.machine.players)}",
        ]
        return Response(200, "".join(f"{line}\n" for line in lines).encode(), "text/plain; version=0.0.4")

    async def _version(self, _: Request) -> Response:
        return json_response({"version": self._parts.memory.version, "commit": "0000000"})

    async def _update(self, _: Request) -> Response:
        return json_response(self._parts.self_update.as_dict())

    async def _begin_update(self, _: Request) -> Response:
        self._parts.self_update.begin()
        return ok(202)

    async def _players(self, _: Request) -> Response:
        if self._is_dev():
            raise Refusal(404, "a dev container has no players")
        names = self._parts.machine.players
        return json_response({"online": len(names), "max": MAX_PLAYERS, "names": names})

    async def _configure(self, request: Request) -> Response:
        status = self._parts.machine.configure(await request.json())
        self._parts.code_server.follow(self._parts.memory.config)
        return ok(status)

    async def _power(self, request: Request) -> Response:
        machine = self._parts.machine
        if request.path in ("/start", "/restart") and self._parts.backups.restoring:
            raise Refusal(409, "a backup is being restored")
        verbs = {"/start": machine.start, "/stop": machine.stop, "/restart": machine.restart, "/kill": machine.kill}
        verbs[request.path]()
        return ok(200 if request.path == "/kill" else 202)

    async def _console(self, request: Request) -> None:
        numbered = request.query.get("numbered") == "1" and not self._parts.faults.get(FaultName.OLD_VERSION)
        await self._parts.console.watch(request, self._typed, numbered=numbered)

    def _typed(self, line: str) -> None:
        """A line typed at the websocket; there is nobody to refuse it to."""
        try:
            self._parts.machine.command(line)
        except Refusal as refusal:
            self._parts.console.publish(f"[agent] {refusal.message}")

    async def _command(self, request: Request) -> Response:
        command = (await request.json()).get("command")
        if not isinstance(command, str) or not command or "\n" in command:
            raise Refusal(400, "`command` is not one line of text")
        self._parts.machine.command(command)
        return ok(202)

    async def _history(self, request: Request) -> Response:
        lines, after = request.query.get("lines", "500"), request.query.get("after")
        if not lines.isdigit() or not (after is None or after.isdigit()):
            raise Refusal(400, "`lines` and `after` are numbers")
        return json_response(self._parts.console.numbered_history(int(lines), None if after is None else int(after)))

    async def _list_files(self, request: Request) -> Response:
        return json_response(self._parts.files.entries(request.query.get("path", "")))

    async def _search_files(self, request: Request) -> Response:
        limit = request.query.get("limit", "200")
        if not limit.isdigit():
            raise Refusal(400, "`limit` is not a number")
        path, part = request.query.get("path", ""), request.query.get("q", "")
        return json_response(await trio.to_thread.run_sync(self._parts.files.search, path, part, int(limit)))

    async def _delete_file(self, request: Request) -> Response:
        self._parts.files.delete(request.query.get("path", ""))
        return Response(204)

    async def _read_file(self, request: Request) -> Response:
        return self._content.read(request.query.get("path", ""), request.headers)

    async def _write_file(self, request: Request) -> Response:
        return await self._content.write(request.query.get("path", ""), request)

    async def _append_file(self, request: Request) -> Response:
        return await self._content.append(request.query.get("path", ""), request.query.get("offset", ""), request)

    async def _change_files(self, request: Request) -> Response:
        files = self._parts.files
        verbs: dict[str, Callable[[dict[str, Any]], None]] = {
            "/files/directory": files.make_directory,
            "/files/rename": files.rename,
            "/files/copy": files.copy,
            "/files/compress": files.compress,
            "/files/extract": files.extract,
            "/files/chmod": files.change_mode,
        }
        wish = await request.json()
        await trio.to_thread.run_sync(verbs[request.path], wish)
        return ok(201 if request.path == "/files/directory" else 200)

    async def _list_mods(self, _: Request) -> Response:
        return json_response({"mods": self._parts.mods.all()})

    async def _search_mods(self, request: Request) -> Response:
        return json_response({"mods": self._parts.mods.search(request.query.get("q", ""))})

    async def _mod_updates(self, _: Request) -> Response:
        return json_response({"updates": self._parts.mods.updates()})

    async def _add_mod(self, request: Request) -> Response:
        return json_response({"id": self._parts.mods.add(await request.json())}, 202)

    async def _change_mod(self, request: Request) -> Response:
        return json_response(self._parts.mods.change(_name(request), await request.json()))

    async def _remove_mod(self, request: Request) -> Response:
        self._parts.mods.remove(_name(request))
        return Response(204)

    async def _list_backups(self, _: Request) -> Response:
        backups = self._parts.backups
        return json_response({"backups": backups.all(), "restore": backups.last_restore})

    async def _create_backup(self, request: Request) -> Response:
        return json_response({"id": self._parts.backups.create(await request.json())}, 202)

    async def _change_backup(self, request: Request) -> Response:
        return json_response(self._parts.backups.change(_name(request), await request.json()))

    async def _restore_backup(self, request: Request) -> Response:
        if self._parts.machine.state not in (AgentState.IDLE, AgentState.CRASHED, AgentState.ERROR):
            raise Refusal(409, f"not possible while {self._parts.machine.state}")
        self._parts.backups.restore(_name(request), await request.json())
        return ok(202)

    async def _delete_backup(self, request: Request) -> Response:
        self._parts.backups.delete(_name(request))
        return Response(204)

    async def _download_backup(self, request: Request) -> Response:
        return self._parts.backups.download(_name(request), request.headers.get("range"))

    async def _code_server(self, _: Request) -> Response:
        return json_response(self._dev().as_dict())

    async def _change_code_server(self, request: Request) -> Response:
        self._dev().change(request.path.rsplit("/", 1)[-1])
        return ok(202)

    def _dev(self) -> CodeServer:
        if not self._is_dev():
            raise Refusal(404, "not a dev container")
        return self._parts.code_server

    def _is_dev(self) -> bool:
        return self._parts.memory.config.get("container_type") == "dev"


def _name(request: Request) -> str:
    """The name in `/mods/<name>` and `/backups/<name>/...`."""
    return request.path.split("/")[2]


def _shape(path: str) -> str:
    parts = path.split("/")
    if len(parts) > 2:
        parts[2] = "{}"
    return "/".join(parts)
