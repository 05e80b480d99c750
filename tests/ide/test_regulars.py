"""Regulars: what is kept of them, and for how long; what is under way when their right ends."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from tests.gateway.behind import FakeGrant
from tests.gateway.ide import ADA, VMID, FakeGatekeeper, FakeWorkshops, Uses, row
from zlh.ide import House, Names, Place, Reach, Regular, Regulars
from zlh.ide.regulars import FORGOTTEN_SECONDS, REMEMBERED
from zlh.model.containers import Power
from zlh.model.errors import ForbiddenError, UnavailableError
from zlh.model.games import CODE_SERVER_PORT
from zlh.model.operations import OperationKind
from zlh.model.whereabouts import Whereabouts

IDE, SHOP = Place(VMID), Place(VMID, 3000)
ADDRESS = "10.0.0.7"


@dataclass
class Scene:
    keeper: FakeGatekeeper = field(default_factory=FakeGatekeeper)
    workshops: FakeWorkshops = field(
        default_factory=lambda: FakeWorkshops(Whereabouts(row(ADDRESS), Power.ON, None, met=True))
    )
    uses: Uses = field(default_factory=Uses)
    machine: set[Any] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.house = House(
            names=Names("ide.test"),
            gatekeeper=self.keeper,  # type: ignore[arg-type]
            reach=Reach((), (), 18888, machine=self.machine),
            workshops=self.workshops,
            activity=self.uses,
            trail=SimpleNamespace(),  # type: ignore[arg-type]
            access=SimpleNamespace(),  # type: ignore[arg-type]
            secure=False,
        )
        self.regulars = Regulars(self.house)

    def ada(self) -> Regular:
        found = self.regulars.find(IDE, ["good"])
        assert found is not None
        return found

    @property
    def grant(self) -> FakeGrant:
        return self.keeper.grants[-1]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_one_who_comes_again_is_the_same(scene: Scene) -> None:
    ada = scene.ada()
    assert scene.ada() is ada
    assert (ada.principal, ada.admit()) == (ADA, (ADDRESS, CODE_SERVER_PORT))
    assert len(scene.keeper.grants) == 1


def test_who_is_not_simply_let_in_is_no_regular(scene: Scene) -> None:
    for offered in ([], ["bad"], ["good", "bad"], ["good", "good"]):
        assert scene.regulars.find(IDE, offered) is None
    scene.keeper.renewed = "fresh"
    assert scene.regulars.find(IDE, ["good"]) is None


def test_at_a_public_port_all_are_the_same(scene: Scene) -> None:
    scene.keeper.public = True
    anybody = scene.regulars.find(SHOP, [])
    assert anybody is not None
    assert scene.regulars.find(SHOP, ["good"]) is anybody
    assert (anybody.principal, anybody.admit()) == (None, (ADDRESS, 3000))
    scene.keeper.public = False
    assert anybody.admit() is None


def test_everything_that_may_change_is_asked_at_each_request(scene: Scene) -> None:
    ada = scene.ada()
    for change in (
        replace(scene.workshops.found, power=Power.OFF),
        replace(scene.workshops.found, doing=OperationKind.TEARDOWN),
        replace(scene.workshops.found, row=replace(row(ADDRESS), provisioned=False)),
    ):
        good, scene.workshops.found = scene.workshops.found, change
        assert ada.admit() is None
        scene.workshops.found = good
        assert ada.admit() is not None
    scene.workshops.found = replace(scene.workshops.found, met=False)
    with pytest.raises(UnavailableError):
        ada.admit()
    scene.workshops.found = replace(scene.workshops.found, met=True)
    scene.keeper.refusal = ForbiddenError("no")
    assert ada.admit() is None
    scene.keeper.refusal = None
    scene.workshops.found = replace(scene.workshops.found, row=row("127.0.0.1"))
    for _ in range(2):
        with pytest.raises(UnavailableError):
            ada.admit()


def test_an_address_that_became_ours_is_noticed_at_the_next_tick(scene: Scene) -> None:
    ada = scene.ada()
    assert ada.admit() is not None
    scene.machine.add(ip_address(ADDRESS))
    scene.regulars.tick(1.0)
    with pytest.raises(UnavailableError):
        ada.admit()


def test_when_the_right_ends_what_is_under_way_is_cut_off(scene: Scene) -> None:
    ada, cut = scene.ada(), []
    first, second, third = (lambda: cut.append(1)), (lambda: cut.append(2)), (lambda: cut.append(3))
    for each in (first, second, third):
        ada.begin(each)
    ada.finish(second)
    assert len(scene.house.presence) == 2
    scene.grant.end(4401, "signed out")
    assert sorted(cut) == [1, 3]
    assert (ada.gone, ada.admit()) == (True, None)
    ada.finish(first)
    ada.finish(third)
    assert scene.grant.released
    assert len(scene.house.presence) == 0
    assert scene.ada() is not ada


def test_who_stays_away_is_forgotten_but_not_who_waits(scene: Scene) -> None:
    ada = scene.ada()
    ada.admit()
    now = 0.0
    for gone in (False, True):
        now += FORGOTTEN_SECONDS + 1
        scene.regulars.tick(now)
        assert ada.gone is gone
    assert (scene.grant.released, len(scene.regulars)) == (True, 0)
    waiting = scene.ada()
    waiting.begin(cut := lambda: None)
    for _ in range(3):
        now += FORGOTTEN_SECONDS + 1
        scene.regulars.tick(now)
    assert not waiting.gone
    assert scene.uses.touches == 1
    waiting.finish(cut)


def test_there_are_only_so_many(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene.keeper, "recognise", lambda place, token: ADA)
    ada, cut = scene.ada(), []
    ada.begin(end := lambda: cut.append(1))
    for number in range(REMEMBERED):
        scene.regulars.find(IDE, [str(number)])
    assert (len(scene.regulars), ada.gone) == (REMEMBERED, True)
    # Its request goes on, and ends with its right all the same.
    assert not scene.keeper.grants[0].released
    scene.keeper.grants[0].end(4401, "signed out")
    assert cut == [1]
    ada.finish(end)
    assert scene.keeper.grants[0].released
