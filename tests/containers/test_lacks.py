"""What agents lack is believed of their own kind, for a while, and forgotten with the container."""

from __future__ import annotations

import orjson

from tests.containers.samples import NOW, a_row
from zlh.containers.lacks import FORGET_SECONDS, AgentKind, Lacks
from zlh.containers.projection import Projection
from zlh.model.access import Sight
from zlh.model.agent_calls import Feature
from zlh.model.observed import AgentObservation, Version

OLD = AgentObservation(version=Version("1.0.0"))
NEW = AgentObservation(version=Version("2.0.0"))


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def test_one_agent_speaks_for_its_version_and_its_owner_only() -> None:
    projection = Projection(Clock())
    hers, hers_too, his = (projection.add(a_row(vmid, owner_id=owner)) for vmid, owner in ((1, 7), (2, 7), (3, 8)))
    for cell in (hers, hers_too, his):
        cell.observe_agent(OLD)
    hers.learn_lacking(Feature.MODS)
    assert [cell.lacking for cell in (hers, hers_too, his)] == [{Feature.MODS}, {Feature.MODS}, frozenset()]
    hers.observe_agent(NEW)
    assert [cell.lacking for cell in (hers, hers_too)] == [frozenset(), {Feature.MODS}]


def test_an_agent_without_a_version_speaks_for_itself_only() -> None:
    projection = Projection(Clock())
    one, other = projection.add(a_row(1)), projection.add(a_row(2))
    one.learn_lacking(Feature.FILES)
    assert (one.lacking, other.lacking) == ({Feature.FILES}, frozenset())
    one.observe_agent(NEW)
    assert one.lacking == frozenset()
    projection.remove(1)
    assert projection.add(a_row(1)).lacking == frozenset()


def test_an_agent_of_many_versions_is_remembered_as_one() -> None:
    projection = Projection(Clock())
    cell, other = projection.add(a_row(1)), projection.add(a_row(2))
    other.observe_agent(OLD)
    other.learn_lacking(Feature.FILES)
    for number in range(100):
        cell.observe_agent(AgentObservation(version=Version(f"9.{number}")))
        cell.learn_lacking(Feature.UPDATE)
    assert projection.lacks.kinds == 2
    assert (cell.lacking, other.lacking) == ({Feature.UPDATE}, {Feature.FILES})
    projection.remove(1)
    assert projection.lacks.kinds == 1
    projection.remove(2)
    assert projection.lacks.kinds == 0


def test_a_mistake_is_not_for_ever() -> None:
    clock, told = Clock(), list[AgentKind]()
    lacks, kind = Lacks(told.append, clock), AgentKind.of(7, 5001, "1.0.0")
    lacks.learn(kind, Feature.BACKUPS)
    lacks.learn(kind, Feature.BACKUPS)
    assert (lacks.of(kind), told) == ({Feature.BACKUPS}, [kind])
    clock.now += FORGET_SECONDS
    assert lacks.of(kind) == frozenset()
    lacks.learn(kind, Feature.BACKUPS)
    assert told == [kind, kind]


def test_the_list_of_servers_shows_it_at_once() -> None:
    projection = Projection(Clock())
    cell = projection.add(a_row(1))
    cell.observe_agent(OLD)

    def features() -> list[str]:
        told: list[str] = orjson.loads(projection.servers_json(Sight(7)))["servers"][0]["features"]
        return told

    everything = features()
    assert "mods" in everything
    assert "code-server" not in everything, "a game has no IDE"
    before = projection.servers_json(Sight(7))
    assert projection.servers_json(Sight(7)) is before
    cell.learn_lacking(Feature.MODS)
    assert features() == [feature for feature in everything if feature != "mods"]
