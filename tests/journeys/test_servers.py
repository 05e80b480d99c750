"""The main journey, in pieces, on the shared demo."""

from __future__ import annotations

import os
import signal
from typing import Any

import httpx
import orjson
import pytest
import trio
from trio_websocket import open_websocket_url

from tests.journeys.process import DemoProcess
from tests.plain import PLAIN
from zlh.demo.portal import Portal
from zlh.demo.wishes import DEV, GAME


async def test_both_servers_run_and_say_why(customer: Portal, demo: DemoProcess) -> None:
    for ctype, vmid in demo.ready["vmids"].items():
        server = await customer.until(vmid, "running")
        assert server["type"] == ctype.upper()
        assert server["hostStatus"] == "online"
        assert server["agentStatus"] == "online"
        assert server["ready"] is True
        assert server["staleSeconds"] <= 10
        assert server["ip"].startswith("127.")


async def test_game_and_host_power(customer: Portal, game: int) -> None:
    await customer.until(game, "running")
    await customer.post(f"/api/servers/{game}/game/stop")
    await customer.until(game, "stopped")
    await customer.post(f"/api/servers/{game}/game/start")
    await customer.until(game, "running")
    operation = await customer.follow((await customer.post(f"/api/servers/{game}/host/stop"))["operation"])
    assert [step["state"] for step in operation["steps"]] == ["done"]
    server = await customer.until(game, "host offline")
    assert server["hostStatus"] == "offline"
    await customer.follow((await customer.post(f"/api/servers/{game}/host/start"))["operation"])
    await customer.until(game, "running")


async def test_a_strangers_requests_find_nothing(stranger: Portal, game: int, demo: DemoProcess) -> None:
    headers = {"Authorization": f"Bearer {stranger.token}"}
    calls = [
        ("GET", f"/api/servers/{game}"),
        ("GET", f"/api/instances/{game}"),
        ("DELETE", f"/api/containers/{game}?force=true"),
        ("PUT", f"/api/servers/{game}/upgrade"),
        *(("POST", f"/api/servers/{game}/game/{verb}") for verb in ("start", "stop", "restart", "kill")),
        *(("POST", f"/api/servers/{game}/host/{verb}") for verb in ("start", "stop", "restart")),
        ("GET", f"/api/servers/{game}/console/stream"),
    ]
    async with httpx.AsyncClient(
        base_url=demo.ready["url"], headers=headers, trust_env=False, verify=PLAIN
    ) as client:
        for method, path in calls:
            upgrade = {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            }
            more = upgrade if path.endswith("/stream") else {}
            body = {"memory": 1024} if method == "PUT" else None
            answer = await client.request(method, path, json=body, headers=more)
            assert answer.status_code == 404, (method, path, answer.text)
            assert answer.json()["error"]
        assert (await client.get("/api/servers")).json() == {"servers": []}
        assert (await client.get("/api/operators/actors")).status_code == 403


async def test_two_requests_for_the_last_place(stranger: Portal, demo: DemoProcess) -> None:
    headers = {"Authorization": f"Bearer {stranger.token}"}
    answers: list[httpx.Response] = []
    async with httpx.AsyncClient(
        base_url=demo.ready["url"], headers=headers, timeout=30, trust_env=False, verify=PLAIN
    ) as client:

        async def order() -> None:
            answers.append(await client.post("/api/instances", json=dict(DEV)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(order)
            nursery.start_soon(order)
    made, refused = sorted(answers, key=lambda answer: answer.status_code)
    assert made.status_code == 202
    assert refused.status_code == 403
    assert refused.json()["code"] == "plan_limit"
    assert "dev containers" in refused.json()["error"]
    await stranger.follow(made.json()["operation"])
    vmid = made.json()["vmid"]
    gone = await stranger.delete(f"/api/containers/{vmid}?force=true&wait=30")
    assert gone["operation"]["state"] == "succeeded"
    assert (await stranger.get("/api/instances"))["rows"] == []


async def test_an_operations_events_resume(customer: Portal, raw: httpx.AsyncClient, game: int) -> None:
    await customer.until(game, "running")
    href = (await customer.post(f"/api/servers/{game}/host/restart"))["operation"]["href"]
    seen = await _events(raw, href)
    numbers = [number for number, _ in seen]
    assert numbers == sorted(set(numbers))
    assert seen[-1][1]["state"] == "succeeded"
    # Who comes back in the middle gets what is new to him, and at the end nothing.
    again = await _events(raw, href, last=numbers[0])
    assert [number for number, _ in again] == numbers[-1:]
    over = await raw.get(f"{href}/events", headers={"Last-Event-ID": str(numbers[-1])})
    assert over.status_code == 204
    await customer.until(game, "running")


async def _events(client: httpx.AsyncClient, href: str, last: int | None = None) -> list[tuple[int, dict[str, Any]]]:
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    events, number = [], -1
    with trio.fail_after(30):
        async with client.stream("GET", f"{href}/events", headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    number = int(line[4:])
                elif line.startswith("data: "):
                    events.append((number, orjson.loads(line[6:])))
    return events


async def test_server_events_first_all_then_what_changes(customer: Portal, game: int, demo: DemoProcess) -> None:
    await customer.until(game, "running")
    address = demo.ready["url"].replace("http", "ws", 1) + "/api/servers/events"
    async with open_websocket_url(address) as events:
        await events.send_message(orjson.dumps({"auth": customer.token}).decode())
        with trio.fail_after(20):
            snapshot = orjson.loads(await events.get_message())
            assert snapshot["event"] == "snapshot"
            assert {server["id"] for server in snapshot["servers"]} >= {str(game)}
            await customer.post(f"/api/servers/{game}/game/stop")
            while await _status(events, game) != "stopped":
                pass
            await customer.post(f"/api/servers/{game}/game/start")
            while await _status(events, game) != "running":
                pass


async def _status(events: Any, vmid: int) -> str | None:
    delta = orjson.loads(await events.get_message())
    assert delta["event"] == "delta"
    found = [server["status"] for server in delta["servers"] if server["id"] == str(vmid)]
    return found[0] if found else None


async def test_the_operator_sees_every_actor(operator: Portal, demo: DemoProcess) -> None:
    text = orjson.dumps(await operator.get("/api/operators/actors")).decode()
    for vmid in demo.ready["vmids"].values():
        assert f'"{vmid}"' in text


async def test_an_api_that_is_killed_while_it_provisions(stranger: Portal, demo: DemoProcess) -> None:
    """202 is durable: whatever happens then, the operation ends, and everyone agrees about the container."""
    before = demo.ready["pids"]["api"]
    answer = await stranger.order(GAME)
    operation = answer["operation"]
    with trio.fail_after(20):
        while not any(step["state"] == "done" for step in operation["steps"]):
            operation = (await stranger.get(operation["href"]))["operation"]
    assert operation["state"] == "running"
    os.kill(before, signal.SIGKILL)
    with trio.fail_after(40):
        while demo.ready["pids"]["api"] == before:  # noqa: ASYNC110 - another process writes it
            await trio.sleep(0.05)
    operation = await stranger.follow(operation)
    server = await stranger.until(answer["vmid"], "running")
    assert server["ready"] is True
    await stranger.follow((await stranger.delete(f"/api/containers/{answer['vmid']}?force=true"))["operation"])
    async with httpx.AsyncClient(trust_env=False, verify=PLAIN) as client:
        listed = (await client.get(demo.ready["proxmoxControl"] + "/containers")).json()["containers"]
    assert answer["vmid"] not in {item["vmid"] for item in listed}


@pytest.mark.parametrize("part", ["proxmox", "agents", "database"])
async def test_a_part_that_dies_is_started_again(customer: Portal, game: int, demo: DemoProcess, part: str) -> None:
    before = demo.ready["pids"][part]
    os.kill(before, signal.SIGKILL)
    with trio.fail_after(40):
        while demo.ready["pids"][part] == before:  # noqa: ASYNC110 - another process writes it
            await trio.sleep(0.05)
    await customer.until(game, "running")
    await customer.follow((await customer.post(f"/api/servers/{game}/host/restart"))["operation"])
    await customer.until(game, "running")


async def test_the_commands_of_the_summary_work(customer: Portal, game: int, demo: DemoProcess) -> None:
    text = demo.output.read_text().split("Try it in another terminal\n")[1].split("\n\n")[0]
    with trio.fail_after(60):
        done = await trio.run_process(["bash", "-euc", text], capture_stdout=True, capture_stderr=True, check=False)
    printed = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert '"servers": [' in printed
    assert '{"ok":true}' in printed
    assert '"state":"succeeded"' in printed
    assert '"actors": {' in printed
    # One of them stops the game, and other journeys want it.
    await customer.until(game, "stopped")
    await customer.post(f"/api/servers/{game}/game/start")
    await customer.until(game, "running")
