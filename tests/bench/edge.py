"""What it costs to keep many containers published: with nothing to do, many at once, one, and only agents polled."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import trio

from tests.bench.figures import Figure, at_most
from tests.bench.processes import Answers, first_word, program
from tests.bench.publisher import records
from tests.bench.scale import Scale
from tests.drivers.dns_contract import ZONE
from tests.drivers.rfc2136.knot import HOST, Knot
from tests.plain import PLAIN
from zlh.drivers.rfc2136.node import marks_of
from zlh.drivers.technitium import Technitium
from zlh.store.embedded import open_embedded
from zlh.store.migrate import migrate

OTHERS = ("cloudflare", "rfc2136")
TOKEN = "token of the zone"
FEW = 10
"""One in so many, to see what one change costs more where there are more containers."""
POLL_SECONDS = 5
"""At the default cadence every agent is heard of that often."""


@dataclass
class Publishing:
    """`cpu` and `rss` are those of the process that publishes."""

    publisher: Answers
    nameserver: httpx.AsyncClient | None

    async def do(self, what: str, **parameters: float) -> Done:
        before = await self._requests()
        told = await self.publisher.tell({"do": what, **parameters})
        return Done(**told, requests=await self._requests() - before)

    async def _requests(self) -> int:
        """As far as the target counts them."""
        if self.nameserver is None:
            return 0
        state = (await self.nameserver.get("/simulator/state", timeout=30.0)).json()
        return sum(state["calls"].values())


@dataclass(frozen=True)
class Done:
    """`calls` are looks and batches of changes, `requests` what came of them at the name server."""

    seconds: float
    cpu: float
    calls: int
    rss: int
    requests: int


async def edge(scale: Scale) -> list[Figure]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zlh-bench-")))
        url = await stack.enter_async_context(open_embedded(folder / "database"))
        await trio.to_thread.run_sync(migrate, url)
        few = await _few(folder, url, scale)
        async with _publishing(folder, url, scale, scale.published) as many:
            figures = await _measure(many, few, scale)
        return [*figures, *[figure for kind in OTHERS for figure in await _at_rest(folder, url, scale, kind)]]


async def _few(folder: Path, url: str, scale: Scale) -> Done:
    """What renamings cost where there are not as many."""
    async with _publishing(folder, url, scale, scale.published // FEW) as publishing:
        await publishing.do("open")
        return await publishing.do("rename", count=scale.renamed)


async def _at_rest(folder: Path, url: str, scale: Scale, kind: str) -> list[Figure]:
    """The same with nothing to do at a target of another kind."""
    async with _publishing(folder, url, scale, scale.published, kind) as publishing:
        await publishing.do("open")
        done = await publishing.do("reconcile")
    name = f"{scale.published:,} containers at {kind}, nothing to do"
    return [
        Figure(f"{name}: time", done.seconds, "s", note="3 entries each"),
        Figure(f"{name}: processor", done.cpu, "s"),
        Figure(f"{name}: calls", done.requests or done.calls, ""),
    ]


async def _measure(publishing: Publishing, few: Done, scale: Scale) -> list[Figure]:
    rate, count = scale.published // POLL_SECONDS, scale.published
    heard = {"seconds": scale.load_seconds, "rate": rate}
    alone = await publishing.do("poll", **heard)
    opened = await publishing.do("open")
    nothing = await publishing.do("reconcile")
    polled = await publishing.do("poll", **heard)
    renamed = await publishing.do("rename", count=scale.renamed)
    added = await publishing.do("add", count=scale.published_at_once)
    one, one_of_few = renamed.cpu / scale.renamed, few.cpu / scale.renamed
    book = polled.cpu / polled.seconds - alone.cpu / alone.seconds
    name = f"{count:,} containers"
    return [
        Figure(f"{name}, nothing to do: time", nothing.seconds, "s", note="3 entries each"),
        Figure(f"{name}, nothing to do: processor", nothing.cpu, "s"),
        Figure(f"{name}, nothing to do: calls", nothing.requests, "", at_most(1)),
        Figure(
            f"{name}, nothing to do: memory of book, ledger and target",
            (polled.rss - alone.rss) / 1e6,
            "MB",
            note=f"with the look; of {polled.rss / 1e6:.0f} MB",
        ),
        Figure(f"{name}, nothing to do: after a start, time", opened.seconds, "s"),
        Figure(f"{name}, one renamed: processor", 1000 * one, "ms", note=_calls(renamed, scale.renamed)),
        Figure(
            f"{name}, one renamed: more than among {count // FEW:,}",
            1000 * max(0.0, one - one_of_few),
            "ms",
            at_most(2),
            f"there {1000 * one_of_few:.1f} ms",
        ),
        Figure(f"{name}, one renamed: time", renamed.seconds / scale.renamed, "s"),
        Figure(
            f"{name}, {rate:,} agents a second heard of: processor of the book",
            100 * max(0.0, book),
            "% of a core",
            at_most(5),
            f"{polled.calls} calls",
        ),
        Figure(
            f"{scale.published_at_once} more at once: until all are there",
            added.seconds,
            "s",
            note=f"the name server is told at most {Technitium.per_second:.0f} entries a second",
        ),
        Figure(f"{scale.published_at_once} more at once: processor", added.cpu, "s", note=_calls(added, 1)),
    ]


def _calls(done: Done, times: int) -> str:
    return f"{done.requests / times:.0f} requests in {done.calls / times:.0f} looks and batches"


@asynccontextmanager
async def _publishing(
    folder: Path, url: str, scale: Scale, count: int, kind: str = "technitium"
) -> AsyncIterator[Publishing]:
    """`count` containers that are published already."""
    async with AsyncExitStack() as stack:
        log = folder / "log"
        near = await stack.enter_async_context(program("tests.bench.publisher", log=log))
        client: httpx.AsyncClient | None = None
        if kind == "rfc2136":
            place = await stack.enter_async_context(_knot(folder, count))
        else:
            far = await stack.enter_async_context(program("tests.bench.nameserver", log=log))
            await _say(far, {"kind": kind, "zone": ZONE, "token": TOKEN, "records": list(records(ZONE, count))})
            place = (await first_word(far))["url"]
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=place, trust_env=False, verify=PLAIN))
        publisher = Answers(near)
        order = {"kind": kind, "database": url, "url": place, "token": TOKEN, "zone": ZONE, "containers": count}
        await publisher.tell(order | {"core": scale.api_core})
        yield Publishing(publisher, client)


@asynccontextmanager
async def _knot(folder: Path, count: int) -> AsyncIterator[str]:
    """A real one (needs Debian's knot), with a mark for every record."""
    lines = []
    for kind, name, value, ttl, comment in records(ZONE, count):
        data = f"{value}." if kind == "SRV" else value
        lines.append(f'{name}. {ttl} IN {kind} {data}\n{marks_of(name)}. 60 IN TXT "{comment} {kind} {value}"\n')
    place = folder / "knot"
    await trio.Path(place).mkdir()
    knot = Knot(place, "".join(lines))
    await trio.to_thread.run_sync(knot.start)
    try:
        yield f"{HOST}:{knot.port}"
    finally:
        knot.stop()


async def _say(process: trio.Process, order: object) -> None:
    assert process.stdin is not None
    await process.stdin.send_all(json.dumps(order).encode() + b"\n")
