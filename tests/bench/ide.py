"""The IDE proxy against nginx: processor time of each for the same requests to the same program, in one run.

Both have the API's core, in turns; what they stand before and what asks them share the others. Ours also judges at
every request who asks, confines cookies and redirects, and ends what is open with the right to it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import trio

from tests.bench.figures import Figure, at_most
from tests.bench.nginx import PROGRAM, files, nginx, proxy
from tests.bench.processes import Answers, program, usage
from tests.bench.scale import Scale
from tests.bench.world import Api, blocks, open_world
from tests.faults.world import free_port
from zlh.model.containers import ContainerType
from zlh.model.games import CODE_SERVER_PORT

WRK = shutil.which("wrk")
CONNECTIONS = 50
MESSAGES = "websocket messages there and back"
COUNTED = re.compile(rb"(\d+) requests in ")
TROUBLE = (b"Non-2xx", b"Socket errors")
# What a browser says with every request for a part of a page.
BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36",
    "Accept: */*",
    "Accept-Language: en-US,en;q=0.9,de;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Connection: keep-alive",
    "Referer: http://127.0.0.1/ide/6001/",
    "Sec-Fetch-Dest: script",
    "Sec-Fetch-Mode: no-cors",
    "Sec-Fetch-Site: same-origin",
    'sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"',
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"',
)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the program: the process that goes it, and how it is asked."""

    pid: int
    port: int
    prefix: str = ""
    cookie: str = ""


# Asks one way for a while; how often it was answered.
Ask = Callable[[Way], Awaitable[float]]


async def against_nginx(scale: Scale) -> list[Figure]:
    """Where nginx or wrk is missing, only what our websockets cost."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(scale, agents=False))
        customer = await world.account("customer")
        vmids = await world.add(customer, 2, ctype=ContainerType.DEV)
        addresses = [world.fleet.address(vmid) for vmid in vmids]
        pool = f"{blocks()}.128.1-{blocks()}.128.250"
        api = await stack.enter_async_context(world.api(containers_address_pool=pool))
        await api.ready()
        token = await api.token("customer")
        ours = [await _admitted(api, token, vmid) for vmid in vmids]
        echoes = await stack.enter_async_context(program("tests.bench.echoes", log=world.folder / "echoes.log"))
        ends = Answers(echoes)
        await ends.tell({"listen": [addresses[1], CODE_SERVER_PORT]})
        talk = partial(_talk, ends, scale.ide_seconds)
        if PROGRAM is None or WRK is None:
            return await _alone(MESSAGES, talk, ours[1])

        theirs = []
        for number, address in enumerate(addresses):
            port = free_port()
            configuration = proxy(port, address, CODE_SERVER_PORT)
            started = nginx(world.folder, f"proxy{number}", configuration, ("127.0.0.1", port), scale.api_core)
            theirs.append(Way(await stack.enter_async_context(started), port))
        pages = files(addresses[0], CODE_SERVER_PORT, _pages(world.folder))
        await stack.enter_async_context(nginx(world.folder, "pages", pages, (addresses[0], CODE_SERVER_PORT)))
        small = partial(_ask_pages, "10k", scale.ide_seconds)
        large = partial(_ask_pages, "1m", scale.ide_seconds)
        return [
            *await _compare("10 KB answers", small, ours[0], theirs[0], aim=2.0, rounds=scale.rounds),
            *await _compare("1 MB answers", large, ours[0], theirs[0], aim=0.7, rounds=scale.rounds),
            *await _compare(MESSAGES, talk, ours[1], theirs[1], aim=1.6, rounds=scale.rounds),
        ]


async def _alone(name: str, ask: Ask, way: Way) -> list[Figure]:
    before = usage(way.pid).cpu
    answered = await ask(way)
    spent = usage(way.pid).cpu - before
    note = "nothing to compare with: nginx-light and wrk are not installed"
    return [Figure(f"IDE proxy, {name}: processor time of ours for one", 1e6 * spent / answered, "us", note=note)]


async def _compare(name: str, ask: Ask, ours: Way, theirs: Way, *, aim: float, rounds: int) -> list[Figure]:
    """Both are asked in turns, so that a neighbour of this machine troubles both."""
    spent = {ours: 0.0, theirs: 0.0}
    answered = {ours: 0.0, theirs: 0.0}
    for _ in range(rounds):
        for way in (ours, theirs):
            before = usage(way.pid).cpu
            answered[way] += await ask(way)
            spent[way] += usage(way.pid).cpu - before
    mine, other = (max(1e-9, spent[way] / answered[way]) for way in (ours, theirs))
    name = f"IDE proxy, {name}, {CONNECTIONS} connections"
    return [
        Figure(f"{name}: processor time, times nginx's", mine / other, "", at_most(aim)),
        Figure(f"{name}: processor time of ours for one", 1e6 * mine, "us", note=f"{answered[ours]:,.0f} of them"),
        Figure(
            f"{name}: processor time of nginx for one", 1e6 * other, "us", note=f"{answered[theirs]:,.0f} of them"
        ),
    ]


async def _admitted(api: Api, token: str, vmid: int) -> Way:
    """As a browser comes in: with a token, which becomes a cookie."""
    given = await api.call("POST", f"/api/dev/{vmid}/ide-token", token)
    opened = urlsplit(given["url"])
    answer = await api.client.get(f"{opened.path}?{opened.query}")
    if answer.status_code != 303:
        raise RuntimeError(f"the IDE was not opened: {answer.status_code} {answer.text[:500]}")
    cookie = answer.headers["set-cookie"].partition(";")[0]
    return Way(api.pid, api.port, opened.path.rstrip("/"), cookie)


def _pages(folder: Path) -> Path:
    root = folder / "pages"
    root.mkdir()
    for name, size in (("10k", 10_000), ("1m", 1_000_000)):
        (root / name).write_bytes(b"x" * size)
    return root


async def _ask_pages(page: str, seconds: int, way: Way) -> float:
    assert WRK is not None
    words = [WRK, "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s"]
    words += [word for line in (*BROWSER, f"Cookie: {way.cookie}") for word in ("-H", line)]
    words.append(f"http://127.0.0.1:{way.port}{way.prefix}/{page}")
    said = (await trio.run_process(words, capture_stdout=True, stdin=subprocess.DEVNULL)).stdout
    counted = COUNTED.search(said)
    if counted is None or any(words in said for words in TROUBLE):
        raise RuntimeError(f"the answers were not as they should be:\n{said.decode(errors='replace')}")
    return float(counted[1])


async def _talk(ends: Answers, seconds: int, way: Way) -> float:
    order = {"port": way.port, "path": f"{way.prefix}/", "cookie": way.cookie}
    heard = await ends.tell({**order, "connections": CONNECTIONS, "seconds": seconds})
    return float(heard["messages"])
