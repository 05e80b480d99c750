"""`zlh demo --once`: the main journey of the product over HTTP and websockets. The project's smoke test."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import httpx
import trio

from zlh.demo.people import FRIEND_EMAIL
from zlh.demo.plant import Plant
from zlh.demo.portal import Portal, RefusedError
from zlh.demo.screen import Checklist, Screen
from zlh.demo.wishes import DEV, GAME, fulfil

GONE_SECONDS = 10.0
ANSWER_SECONDS = 10.0
PUBLISHED_SECONDS = 10.0


class Journey:
    """One walk; every step is a line on the screen. Raises RefusedError, alone or in a group, where it ends."""

    def __init__(self, plant: Plant, screen: Screen) -> None:
        self._plant = plant
        self._screen = screen
        self.steps = 0

    async def walk(self) -> None:
        kept = self._plant.place.secrets
        async with Portal(self._plant.url, "customer", kept.customer_password) as customer:
            self._screen.say()
            made = await fulfil(customer, self._screen, (GAME, DEV))
            self._screen.say()
            with self._screen.checklist() as checklist:
                await self._use(customer, checklist, made["game"], made["dev"])
                await self._visit(checklist, made["game"], made["dev"])
                await self._share(customer, checklist, made["game"])
                await self._buy(checklist)
                await self._oversee(checklist, made)
                await self._leave(customer, checklist, made)
            self.steps = len(checklist.rows) + len(made)

    async def _use(self, customer: Portal, checklist: Checklist, game: int, dev: int) -> None:
        with checklist.row("both servers are running") as row:
            servers = [await customer.until(vmid, "running") for vmid in (game, dev)]
            row.note = ", ".join(f"{server['name']} at {server['address']}" for server in servers)
        with checklist.row("console: a command out, its answer back") as row:
            row.note = await self._converse(customer, game)
        with checklist.row("stop the game"):
            await customer.post(f"/api/servers/{game}/game/stop")
            await customer.until(game, "stopped")
        with checklist.row("start the game"):
            await customer.post(f"/api/servers/{game}/game/start")
            await customer.until(game, "running")
        with checklist.row("stop the host"):
            await customer.follow((await customer.post(f"/api/servers/{game}/host/stop"))["operation"])
            await customer.until(game, "host offline")
        with checklist.row("start the host; the game comes back"):
            await customer.follow((await customer.post(f"/api/servers/{game}/host/start"))["operation"])
            await customer.until(game, "running")

    async def _visit(self, checklist: Checklist, game: int, dev: int) -> None:
        """As a player: by its name in DNS, to the game itself."""
        outside = self._plant.outside
        with checklist.row("the game has a name in DNS") as row:
            row.note = await _soon(lambda: outside.name_of(game), "there is no record of it")
        with checklist.row("a player reaches it through the proxy") as row:
            row.note = await _soon(outside.greeting, "nobody answers")
        with checklist.row("an IDE is found through Traefik") as row:
            row.note = await _soon(lambda: outside.entrance(dev), "there is no route to it")

    async def _converse(self, customer: Portal, vmid: int) -> str:
        """Types once the first lines came: only then the console is connected to the container."""
        words = f"hello from the demo at {time.time():.3f}"
        async with customer.console(vmid) as console:
            with trio.move_on_after(ANSWER_SECONDS):
                await console.get_message()
                await console.send_message(f"say {words}")
                while True:
                    text = str(await console.get_message())
                    for line in text.splitlines():
                        if line.endswith(f"[Server] {words}"):
                            return line
        raise RefusedError(f"the console of {vmid} did not answer within {ANSWER_SECONDS:g} s")

    async def _share(self, customer: Portal, checklist: Checklist, vmid: int) -> None:
        server, shares = f"/api/servers/{vmid}", f"/api/servers/{vmid}/shares"
        async with Portal(self._plant.url, "friend", self._plant.place.secrets.friend_password) as friend:
            with checklist.row("share the game server with a friend") as row:
                # What a walk left that ended in between.
                for left in (await customer.get(shares))["shares"]:
                    await customer.delete(f"{shares}/{left['id']}")
                wish = {"email": FRIEND_EMAIL, "permissions": ["power", "console"]}
                share = (await customer.post(shares, wish))["share"]
                row.note = f"may {', '.join((await friend.get(server))['permissions'])}"
            with checklist.row("the friend may not tear it down"):
                await _expect(friend, "DELETE", f"/api/containers/{vmid}", 403)
            with checklist.row("withdraw it; the friend sees nothing any more"):
                await customer.delete(f"{shares}/{share['id']}")
                await _expect(friend, "GET", server, 404)

    async def _buy(self, checklist: Checklist) -> None:
        plant = self._plant
        async with Portal(plant.url, "newcomer", plant.place.secrets.newcomer_password) as newcomer:
            if (await newcomer.get("/api/billing"))["subscription"] is None:
                with checklist.row("a newcomer without a plan gets no server"):
                    await _expect(newcomer, "POST", "/api/instances", 402, GAME)
                with checklist.row("a newcomer pays on Stripe's page") as row:
                    page = (await newcomer.post("/api/billing/checkout", {"plan": "starter"}))["url"]
                    row.note = await plant.payments.pay(page)
            else:
                # What a walk of before left ends with its period, and goes on where that is taken back.
                with checklist.row("the newcomer's subscription goes on after all"):
                    await newcomer.post("/api/billing/resume")
            with checklist.row("the webhook comes: the plan is active") as row:
                row.note = await _soon(partial(_active, newcomer), "it is not active")
            with checklist.row("the newcomer cancels, for the end of the month") as row:
                ends = (await newcomer.post("/api/billing/cancel"))["billing"]["subscription"]["endsAt"]
                if not ends:
                    raise RefusedError("the subscription does not end")
                row.note = f"until {ends[:10]}"

    async def _oversee(self, checklist: Checklist, made: dict[str, int]) -> None:
        password = self._plant.place.secrets.operator_password
        async with Portal(self._plant.url, "operator", password) as operator:
            with checklist.row("the operator sees the supervision tree") as row:
                tree = (await operator.get("/api/operators/actors"))["actors"]
                names = set(_names(tree))
                missing = {str(vmid) for vmid in made.values()} - names
                if missing:
                    raise RefusedError(f"no actor of {', '.join(sorted(missing))} is in the tree")
                row.note = f"{len(list(_names(tree)))} actors"
            with checklist.row("money and machines agree") as row:
                row.note = await self._agree(operator)

    async def _agree(self, operator: Portal) -> str:
        """When everything was last compared with Stripe, once nothing is wrong. Raises RefusedError with what is."""
        books: dict[str, Any] = {"green": False, "findings": []}
        with trio.move_on_after(PUBLISHED_SECONDS):
            while not (books := await operator.get("/api/operators/billing/invariants"))["green"]:  # noqa: ASYNC110
                await trio.sleep(0.1)
        if not books["green"]:
            raise RefusedError("; ".join(f"{one['kind']}: {one['detail']}" for one in books["findings"]))
        return f"compared with Stripe at {books['comparedAt'][11:19]}"

    async def _leave(self, customer: Portal, checklist: Checklist, made: dict[str, int]) -> None:
        with checklist.row("tear both down"):
            for vmid in made.values():
                answer = await customer.delete(f"/api/containers/{vmid}?force=true")
                await customer.follow(answer["operation"])
        with checklist.row("nothing is left in Proxmox, DNS or the database") as row:
            left = await self._left(customer, made)
            if left:
                raise RefusedError("; ".join(left))
            row.note = "no container, no name, no row, no server"

    async def _left(self, customer: Portal, made: dict[str, int]) -> list[str]:
        with trio.move_on_after(GONE_SECONDS):
            while await self._remains(customer, made):  # noqa: ASYNC110 - others decide: look again
                await trio.sleep(0.1)
        return await self._remains(customer, made)

    async def _remains(self, customer: Portal, made: dict[str, int]) -> list[str]:
        vmids = set(made.values())
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:  # noqa: S501 - loopback, plain http
            listed: dict[str, Any] = (await client.get(f"{self._plant.place.proxmox_control}/containers")).json()
        in_proxmox = {item["vmid"] for item in listed["containers"]} & vmids
        in_rows = {row["vmid"] for row in (await customer.get("/api/instances"))["rows"]} & vmids
        shown = {int(server["id"]) for server in (await customer.get("/api/servers"))["servers"]} & vmids
        found = (("Proxmox still has", in_proxmox), ("the database still has", in_rows), ("still listed:", shown))
        words = [f"{words} {', '.join(map(str, sorted(which)))}" for words, which in found if which]
        return words + await self._plant.outside.left_of(vmids)


async def _soon(look: Callable[[], Awaitable[str]], otherwise: str) -> str:
    """What is seen at last. Raises RefusedError where nothing is within a while."""
    with trio.move_on_after(PUBLISHED_SECONDS):
        while not (seen := await look()):  # noqa: ASYNC110 - others decide: look again
            await trio.sleep(0.1)
        return seen
    raise RefusedError(f"{otherwise} after {PUBLISHED_SECONDS:g} s")


async def _active(customer: Portal) -> str:
    billing = await customer.get("/api/billing")
    plan = billing["plan"]
    return f"{plan['title']}, {plan['price'] / 100:.2f} {plan['currency']}" if billing["status"] == "active" else ""


async def _expect(portal: Portal, method: str, path: str, status: int, body: Mapping[str, Any] | None = None) -> None:
    answered = await portal.refused(method, path, body)
    if answered != status:
        raise RefusedError(f"{method} {path} was refused with {answered}, not {status}")


def _names(node: dict[str, Any]) -> list[str]:
    children = [name for child in node.get("children", ()) for name in _names(child)]
    return [str(node.get("name", "")), *children]
