"""One signed-in user of the HTTP API, as the Portal would be."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

LOOK_SECONDS = 0.1
AGAIN_SECONDS = 0.3
FINAL = ("succeeded", "failed", "compensated")


class RefusedError(Exception):
    """The API said no or nothing, or the outcome is not the one that was wanted."""


class Portal:
    """`async with Portal(url, identifier, password) as portal` signs in; the token is renewed when it expires."""

    def __init__(self, url: str, identifier: str, password: str) -> None:
        self._identifier = identifier
        self._password = password
        self._url = url
        # Plain http on loopback: no proxies of the environment, no authorities to load.
        self._http = httpx.AsyncClient(base_url=url, timeout=60.0, trust_env=False, verify=False)  # noqa: S501
        self.token = ""

    async def __aenter__(self) -> Portal:
        await self.sign_in()
        return self

    async def __aexit__(self, *_: object) -> None:
        with trio.CancelScope(shield=True):
            await self._http.aclose()

    async def sign_in(self) -> None:
        body = {"identifier": self._identifier, "password": self._password}
        self.token = _checked(await self._ask("POST", "/api/auth/login", body))["token"]

    async def get(self, path: str) -> dict[str, Any]:
        return await self._call("GET", path)

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return await self._call("POST", path, body or {})

    async def delete(self, path: str) -> dict[str, Any]:
        return await self._call("DELETE", path)

    async def refused(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> int:
        """The status with which a call is refused. Raises RefusedError where it is not."""
        answer = await self._ask(method, path, body)
        if not answer.is_client_error:
            raise RefusedError(f"{method} {path} was to be refused: {answer.status_code}")
        return answer.status_code

    async def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer = await self._ask(method, path, body)
        if answer.status_code == 401:
            await self.sign_in()
            answer = await self._ask(method, path, body)
        return _checked(answer)

    async def _ask(self, method: str, path: str, body: object) -> httpx.Response:
        try:
            return await self._http.request(method, path, json=body, headers=self._headers())
        except httpx.TransportError as error:
            raise RefusedError(f"{method} {path}: no answer: {str(error) or type(error).__name__}") from error

    def _headers(self) -> dict[str, str]:
        if not self.token:
            return {}
        return {"Authorization": f"Bearer {self.token}"}

    async def order(self, wish: Mapping[str, Any]) -> dict[str, Any]:
        """Asks for a container; the answer with its vmid and its operation."""
        return await self.post("/api/instances", wish)

    async def server(self, vmid: int) -> dict[str, Any]:
        server: dict[str, Any] = (await self.get(f"/api/servers/{vmid}"))["server"]
        return server

    async def follow(
        self, operation: Mapping[str, Any], changed: Callable[[Mapping[str, Any]], None] = lambda _: None
    ) -> Mapping[str, Any]:
        """Waits for the end of an operation by its event stream, resumed where it broke. Raises RefusedError unless
        it succeeds."""
        changed(operation)
        href, last = operation["href"], ""
        while operation["state"] not in FINAL:
            try:
                async for number, state in self._events(f"{href}/events", last):
                    last, operation = number, state
                    changed(operation)
            except httpx.TransportError:
                await trio.sleep(AGAIN_SECONDS)
        if operation["state"] != "succeeded":
            kind, vmid = operation["kind"], operation["vmid"]
            raise RefusedError(f"{kind} of {vmid} ended {operation['state']}: {operation['error']}")
        return operation

    async def _events(self, path: str, last: str) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        headers = self._headers() | ({"Last-Event-ID": last} if last else {})
        async with self._http.stream("GET", path, headers=headers) as answer:
            if answer.status_code == 401:
                await self.sign_in()
                return
            if answer.status_code != 200:
                await answer.aread()
                _checked(answer)
                return
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    last = line.removeprefix("id: ")
                elif line.startswith("data: "):
                    yield last, json.loads(line.removeprefix("data: "))

    async def until(self, vmid: int, status: str, *, within: float = 30.0) -> dict[str, Any]:
        """Waits until the server has that status. Raises RefusedError with what it has instead."""
        server = await self.server(vmid)
        with trio.move_on_after(within):
            while server["status"] != status:
                await trio.sleep(LOOK_SECONDS)
                server = await self.server(vmid)
        if server["status"] != status:
            raise RefusedError(f"{vmid} is {server['status']} after {within:g} s, not {status}: {server['reason']}")
        return server

    def console(self, vmid: int) -> AbstractAsyncContextManager[WebSocketConnection]:
        """The live console: text messages with one or more lines come, each sent message is a command."""
        address = f"ws{self._url.removeprefix('http')}/api/servers/{vmid}/console/stream"
        connection: AbstractAsyncContextManager[WebSocketConnection] = open_websocket_url(
            address, extra_headers=[(b"Authorization", f"Bearer {self.token}".encode())]
        )
        return connection


def _checked(answer: httpx.Response) -> dict[str, Any]:
    """The body as JSON. Raises RefusedError with the API's own words."""
    try:
        body = answer.json() if answer.content else {}
    except ValueError:
        raise RefusedError(f"{answer.request.url.path} answered {answer.status_code} and no JSON") from None
    if answer.is_error or not isinstance(body, dict):
        said = body.get("error") if isinstance(body, dict) else body
        raise RefusedError(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {said}")
    return body
