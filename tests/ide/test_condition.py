"""When somebody is let through to a container, and who is sent away when that ends."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from tests.gateway.ide import ADA, row
from zlh.ide import Condition, Place
from zlh.ide.condition import condition
from zlh.ide.presence import Presence
from zlh.model.accounts import Principal
from zlh.model.containers import Container, ContainerType, Desired, Lifecycle, Power
from zlh.model.operations import OperationKind
from zlh.model.whereabouts import Whereabouts

UP = row("10.0.0.1")


@pytest.mark.parametrize(
    ("container", "power", "doing", "found"),
    [
        (UP, Power.ON, None, Condition.OPEN),
        (UP, Power.UNKNOWN, None, Condition.OPEN),
        (UP, Power.OFF, None, Condition.OFF),
        (UP, Power.OFF, OperationKind.START_HOST, Condition.STARTING),
        (UP, Power.ON, OperationKind.RESTART_HOST, Condition.STARTING),
        (UP, Power.ON, OperationKind.STOP_HOST, Condition.STOPPING),
        (UP, Power.ON, OperationKind.TEARDOWN, Condition.DELETING),
        (UP, Power.ON, OperationKind.UPGRADE, Condition.OPEN),
        (replace(UP, desired=Desired(lifecycle=Lifecycle.ABSENT)), Power.ON, None, Condition.DELETING),
        (replace(UP, desired=Desired(suspended=True)), Power.ON, None, Condition.SUSPENDED),
        (replace(UP, provisioned=False), Power.ON, OperationKind.PROVISION, Condition.MAKING),
        (row(None), Power.ON, None, Condition.MAKING),
        (row("10.0.0.1", ContainerType.GAME), Power.ON, None, Condition.FOREIGN),
    ],
)
def test_conditions(container: Container, power: Power, doing: OperationKind | None, found: Condition) -> None:
    assert condition(Whereabouts(container, power, doing, met=True)) is found


class Book:
    """A presence whose container and welcome obey the test, and the ends that its visits came to."""

    def __init__(self) -> None:
        self.condition: Condition | None = Condition.OPEN
        self.welcome = True
        self.ends: list[tuple[int, str]] = []
        self.presence = Presence(lambda vmid: self.condition, lambda place, principal: self.welcome)

    def join(self, principal: Principal | None = ADA) -> None:
        self.presence.join(Place(6001), principal, None).on_end(lambda code, reason: self.ends.append((code, reason)))


def test_all_leave_a_container_that_stops_once() -> None:
    book = Book()
    book.join()
    book.join(None)
    book.presence.tick(inf)
    assert book.ends == []
    book.condition = Condition.STOPPING
    book.presence.tick(inf)
    book.presence.tick(inf)
    assert book.ends == [(1001, "it is stopping")] * 2


def test_of_one_that_is_gone_too() -> None:
    book = Book()
    book.join()
    book.condition = None
    book.presence.tick(inf)
    assert book.ends == [(4404, "the container is gone")]


def test_who_is_not_welcome_any_more_leaves_when_ports_change() -> None:
    book = Book()
    book.join()
    book.presence.ports_changed(6001)
    book.presence.ports_changed(6002)
    assert book.ends == []
    book.welcome = False
    book.presence.ports_changed(6002)
    assert book.ends == []
    book.presence.ports_changed(6001)
    assert [code for code, _ in book.ends] == [4403]


def test_who_has_left_is_not_counted_and_not_called() -> None:
    book = Book()
    visit = book.presence.join(Place(6001), ADA, None)
    visit.on_end(lambda code, reason: book.ends.append((code, reason)))
    assert len(book.presence) == 1
    visit.leave()
    visit.leave()
    assert len(book.presence) == 0
    visit.end(1001, "late")
    assert book.ends == []


def test_an_end_before_anybody_listens_is_told_at_once() -> None:
    book = Book()
    visit = book.presence.join(Place(6001), ADA, None)
    book.condition = Condition.OFF
    book.presence.tick(inf)
    visit.on_end(lambda code, reason: book.ends.append((code, reason)))
    assert book.ends == [(1001, "it is off")]
