"""Who could type into a console is told to the guestbook, and how many lines were typed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.gateway.peer import open_socket, until
from tests.gateway.server import Running, running
from zlh.gateway import Limits
from zlh.gateway.limits import ConsoleLimits
from zlh.model.accounts import Principal
from zlh.model.console import Visit

PATH = "/api/servers/5001/console/stream"
GOOD = f"{PATH}?access_token=good"


class Book:
    def __init__(self) -> None:
        self.visits: list[Visit] = []
        self.entries: list[tuple[int, int | None]] = []

    def arrived(self, principal: Principal, visit: Visit) -> None:
        self.visits.append(visit)
        self.entries.append((principal.account_id, None))

    def left(self, principal: Principal, visit: Visit, lines: int) -> None:
        self.visits.append(visit)
        self.entries.append((principal.account_id, lines))


@asynccontextmanager
async def with_book() -> AsyncIterator[tuple[Running, Book]]:
    book = Book()
    async with running(Limits(console=ConsoleLimits()), guestbook=book, trusted_proxies=["127.0.0.1"]) as server:
        yield server, book


async def test_who_comes_to_type_from_where_and_how_much() -> None:
    async with with_book() as (server, book):
        fields = ("User-Agent: portal/1", "X-Forwarded-For: 203.0.113.7", "X-Request-Id: request-1")
        async with open_socket(server.port, GOOD, *fields) as socket:
            await until(lambda: book.entries == [(1, None)])
            await socket.send("say hi\n\nlist\nrefuse")
            await until(lambda: server.consoles.typed == ["say hi", "list"])
        await until(lambda: len(book.entries) == 2)
        assert book.entries[1] == (1, 2)
        visit = book.visits[0]
        assert (visit.vmid, visit.address, visit.agent) == (5001, "203.0.113.7", "portal/1")
        assert visit.request_id
        assert book.visits == [visit] * 2


async def test_who_only_watches_is_not_in_it() -> None:
    async with with_book() as (server, book):
        async with open_socket(server.port, f"{PATH}?access_token=watcher") as socket:
            await socket.send("stop")
            assert "not type" in await socket.text()
        await until(lambda: server.doorkeeper.grants[0].released)
        assert book.entries == []


async def test_who_may_type_later_is_in_it_with_the_first_line() -> None:
    async with with_book() as (server, book):
        async with open_socket(server.port, f"{PATH}?access_token=watcher") as socket:
            await until(lambda: len(server.consoles.viewers) == 1)
            server.doorkeeper.grants[0].may_type = True
            await socket.send("list")
            await until(lambda: book.entries == [(1, None)])
        await until(lambda: book.entries == [(1, None), (1, 1)])


async def test_a_renewed_sign_in_is_the_same_guest_and_another_account_another_one() -> None:
    async with with_book() as (server, book):
        async with open_socket(server.port, GOOD) as socket:
            await socket.send("one")
            await socket.send('{"auth": "good"}')
            await socket.send("two")
            await until(lambda: server.consoles.typed == ["one", "two"])
            assert book.entries == [(1, None)]
            await socket.send('{"auth": "other"}')
            await socket.send("three")
            await until(lambda: server.consoles.typed == ["one", "two", "three"])
        await until(lambda: book.entries == [(1, None), (1, 2), (2, None), (2, 1)])
