"""Servers as people outside reach them: names in a real name server, routes through a real Traefik, targets of a
real Prometheus."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from tests.drivers.dns_contract import ZONE
from tests.edge.real import (
    GREETING,
    IDE_ZONE,
    NODE_EXPORTER_PORT,
    POLL_SECONDS,
    POOL,
    WEB_PORT,
    Published,
    open_published,
    seen,
)
from tests.faults.scenes import accepted
from tests.gateway.ide import Program
from tests.gateway.peer import Answer, Peer, Socket, handshake
from zlh.drivers.errors import NotFound
from zlh.model.games import CODE_SERVER_PORT

pytestmark = pytest.mark.faults

SIZES = {"memoryMiB": 1024, "cpuCores": 1, "diskGiB": 8}
TERRARIA = {"ctype": "game", "game": "terraria", "variant": "vanilla", "version": "1.4.4.9", **SIZES}
VALHEIM = {"ctype": "game", "game": "valheim", "variant": "vanilla", "version": "latest", **SIZES}
DEV = {"ctype": "dev", "runtime": "node", "version": "22", **SIZES}


async def provisioned(published: Published, wish: dict[str, Any], name: str) -> dict[str, Any]:
    """The server, once its address is shown."""
    world = published.world
    operation = await world.finished(await accepted(world, "POST", "/api/instances", {**wish, "name": name}))
    assert operation["state"] == "succeeded", operation
    return await shown(published, operation["vmid"], lambda server: server["address"])


async def shown(published: Published, vmid: int, good: Any) -> dict[str, Any]:
    async def look() -> dict[str, Any]:
        return (await published.world.servers())[vmid]

    return await seen(look, good)


async def torn_down(published: Published, vmid: int) -> None:
    world = published.world
    operation = await world.finished(await accepted(world, "DELETE", f"/api/containers/{vmid}?force=true"))
    assert operation["state"] == "succeeded", operation


def port_of(server: dict[str, Any]) -> int:
    return int(server["address"].rpartition(":")[2])


async def test_games_are_played_through_their_public_ports_until_they_are_withdrawn(tmp_path: Path) -> None:
    async with open_published(tmp_path) as published:
        castle = await provisioned(published, TERRARIA, "castle")
        name, vmid = castle["dnsName"], int(castle["id"])
        assert castle["address"] == f"{name}:{POOL[0]}"
        assert await published.resolved(name) == {published.routes}
        assert ("SRV", f"_terraria._tcp.{name}", f"0 0 {POOL[0]} {name}", 60) in published.knot.records()
        assert (await published.play(POOL[0])).startswith(GREETING)

        saga = await provisioned(published, VALHEIM, "saga")
        assert port_of(saga) == POOL[0], "each protocol has ports of its own"
        await seen(partial(published.play_udp, POOL[0]), lambda heard: heard.startswith(GREETING))

        await _outlives_our_restart(published, POOL[0])
        await _is_found_by_another_name(published, vmid, name)
        await _is_refused_what_others_have(published, int(saga["id"]))

        await torn_down(published, vmid)
        assert await published.play(POOL[0]) == b"", "the route was closed before the container went"
        assert {one for one in published.names() if "castle" in one or "keep" in one} == set()
        assert (await published.play_udp(POOL[0])).startswith(GREETING), "nobody else's was"
        again = await provisioned(published, TERRARIA, "again")
        assert port_of(again) == POOL[0], "what was released is given out again"
        for left in (int(again["id"]), int(saga["id"])):
            await torn_down(published, left)
        assert published.knot.records() == []
        assert await published.play_udp(POOL[0]) == b""


async def _outlives_our_restart(published: Published, port: int) -> None:
    """Somebody plays all the time while the API is killed and started again."""
    world = published.world
    silent: list[bytes] = []
    async with trio.open_nursery() as nursery:

        async def play() -> None:
            while True:
                heard = await published.play(port)
                if not heard.startswith(GREETING):
                    silent.append(heard)
                await trio.sleep(0.02)

        nursery.start_soon(play)
        await world.kill(published.pid)
        await trio.sleep(2 * POLL_SECONDS)
        published.pid = await world.start()
        await trio.sleep(3 * POLL_SECONDS)
        nursery.cancel_scope.cancel()
    assert silent == []


async def _is_found_by_another_name(published: Published, vmid: int, before: str) -> None:
    await published.world.call("PUT", f"/api/servers/{vmid}/name", {"name": "Keep"})
    after = f"keep.{ZONE}"
    server = await shown(published, vmid, lambda server: server["address"] == f"{after}:{POOL[0]}")
    assert server["dnsName"] == after
    assert await published.resolved(after) == {published.routes}
    with pytest.raises(NotFound):
        await published.resolved(before)
    assert (await published.play(POOL[0])).startswith(GREETING)


async def _is_refused_what_others_have(published: Published, vmid: int) -> None:
    async with published.world.client() as client:
        for name, status, code in (("keep", 409, "name_taken"), ("WWW", 400, "name_reserved")):
            answer = await client.put(f"/api/servers/{vmid}/name", json={"name": name})
            assert (answer.status_code, answer.json()["code"]) == (status, code)
        answer = await client.put(f"/api/servers/{vmid}/name", json={"name": "saga"})
        assert answer.json()["hostname"] == f"saga.{ZONE}"
        answer = await client.delete(f"/api/servers/{vmid}/name")
        assert answer.json() == {"ok": True, "name": None, "hostname": f"saga-{vmid}.{ZONE}"}
    await shown(published, vmid, lambda server: server["address"] == f"saga-{vmid}.{ZONE}:{POOL[0]}")


async def test_an_ide_is_entered_through_traefik(tmp_path: Path) -> None:
    async with open_published(tmp_path) as published, trio.open_nursery() as nursery:
        server = await provisioned(published, DEV, "workshop")
        vmid, host = int(server["id"]), f"ide-{server['id']}.{IDE_ZONE}"
        assert server["address"] == host
        program = Program(server["ip"])
        for port in (CODE_SERVER_PORT, 3000):
            await nursery.start(partial(trio.serve_tcp, program.serve, port, host=server["ip"]))

        await seen(partial(_ask, published, host, "/"), lambda answer: answer.status == 401)
        way = urlsplit((await published.world.call("POST", f"/api/dev/{vmid}/ide-token"))["url"])
        entered = await _ask(published, host, f"{way.path}?{way.query}", "Accept: text/html")
        assert entered.status == 303, entered
        cookie = f"Cookie: {(entered.field('set-cookie') or '').partition(';')[0]}"
        opened = await _ask(published, host, "/index", cookie)
        assert (opened.status, opened.json["target"]) == (200, "/index")
        async with await trio.open_tcp_stream(published.routes, WEB_PORT) as stream:
            await stream.send_all(
                handshake("/ws", cookie, f"Origin: http://{host}").replace(b"test", host.encode(), 1)
            )
            peer = Peer(stream)
            assert (await peer.read_head()).status == 101, peer.buffer
            socket = Socket(peer)
            await socket.send("hello")
            assert await socket.text() == "hello"

        assert await published.resolved(host) == {published.routes}
        forwarded = f"p3000-{vmid}.{IDE_ZONE}"
        assert (await _ask(published, forwarded, "/")).status == 404
        wish = {"port": 3000, "visibility": "public"}
        await published.world.call("POST", f"/api/dev/{vmid}/ports", wish)
        await seen(partial(_ask, published, forwarded, "/"), lambda answer: answer.status == 200)
        await seen(partial(trio.to_thread.run_sync, published.names), lambda names: forwarded in names)

        await torn_down(published, vmid)
        for gone in (host, forwarded):
            assert (await _ask(published, gone, "/")).status == 404, "Traefik's own answer: there is no router"
        assert published.names() == set()
        nursery.cancel_scope.cancel()


async def _ask(published: Published, host: str, target: str, *lines: str) -> Answer:
    head = [f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close", *lines]
    async with await trio.open_tcp_stream(published.routes, WEB_PORT) as stream:
        peer = Peer(stream)
        await peer.send("\r\n".join(head).encode() + b"\r\n\r\n")
        return await peer.answer()


async def _export(stream: trio.SocketStream) -> None:
    """A node exporter, as far as one scrape goes."""
    await stream.receive_some(65536)
    body = b"node_load1 0.5\n"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    await stream.send_all(head.encode() + body)


async def test_prometheus_scrapes_the_agent_and_the_node_exporter_of_what_runs(tmp_path: Path) -> None:
    async with open_published(tmp_path) as published, trio.open_nursery() as nursery:
        server = await provisioned(published, TERRARIA, "watched")
        await nursery.start(partial(trio.serve_tcp, _export, NODE_EXPORTER_PORT, host=server["ip"]))
        up = f'up{{vmid="{server["id"]}"}} == 1'
        found = await seen(partial(published.series, up), lambda found: len(found) == 2, 60)
        labels = {one["exporter"]: one for one in found}
        assert labels.keys() == {"node", "agent"}
        assert labels["agent"]["instance"] == f"{server['ip']}:18888"
        for one in found:
            assert (one["ctype"], one["game"], one["variant"]) == ("game", "terraria", "vanilla")
            assert (one["plan"], one["customerId"]) == ("unlimited", "1")
            assert one["node"].startswith("pve")
        running = await published.series(f'zlh_agent_running{{vmid="{server["id"]}"}}')
        assert [one["value"] for one in running] == ["1"]
        assert [one["value"] for one in await published.series("node_load1")] == ["0.5"]

        await torn_down(published, int(server["id"]))
        await seen(partial(published.series, f'up{{vmid="{server["id"]}"}}'), lambda found: not found, 60)
        nursery.cancel_scope.cancel()
