"""Answers, and the lack of them, folded into observations."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.containers.samples import NOW, a_row, agents, hosts
from zlh.containers.observe import (
    CONFIRMED_ABSENCES,
    Round,
    fold_failure,
    fold_guest,
    fold_look,
    fold_round,
    not_asked,
    own,
    stale,
)
from zlh.drivers.errors import Unreachable
from zlh.drivers.proxmox import Guest
from zlh.model.containers import Power
from zlh.model.observed import AgentObservation, AgentState, HostObservation, Liveness, Players, Presence, Status

GOOD = Round(Status(AgentState.RUNNING))
MISSED = Round(failure="no answer within 2 s")


def guest(running: bool | None = True, vmid: int = 5001) -> Guest:
    return Guest(vmid, "pve1", "test", "lxc", running, False, "", ("zlh",), 1 << 30, 60)


@given(agents, st.integers(1, 5))
def test_a_missed_round_erases_nothing(before: AgentObservation, allowed: int) -> None:
    after = fold_round(before, MISSED, NOW, allowed)
    kept = ("status", "readiness", "version", "update", "players", "players_at", "at", "stale")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert (after.misses, after.asked_at, after.reason) == (before.misses + 1, NOW, MISSED.failure)
    assert after.liveness is (Liveness.OFFLINE if after.misses >= allowed else before.liveness)


@given(agents)
def test_one_good_round_is_online(before: AgentObservation) -> None:
    after = fold_round(before, GOOD, NOW, 3)
    assert (after.liveness, after.misses, after.stale, after.at) == (Liveness.ONLINE, 0, False, NOW)
    # What is asked on slower beats stays until it is heard again.
    assert (after.version, after.update, after.players) == (before.version, before.update, before.players)
    told = fold_round(after, replace(GOOD, players=Players(0, 20)), NOW + 1, 3)
    assert (told.players, told.players_at) == (Players(0, 20), NOW + 1)


def test_three_misses_are_offline() -> None:
    seen = fold_round(AgentObservation(), GOOD, NOW, 3)
    course = []
    for second in range(4):
        seen = fold_round(seen, MISSED, NOW + second, 3)
        course.append(seen.liveness)
    assert course == [Liveness.ONLINE, Liveness.ONLINE, Liveness.OFFLINE, Liveness.OFFLINE]
    assert seen.status == GOOD.status


@given(agents)
def test_one_that_is_not_asked_is_unknown(before: AgentObservation) -> None:
    after = not_asked(before, "the container is off")
    assert after.liveness is Liveness.UNKNOWN
    assert not_asked(after, "the container is off") is after
    assert stale(before).stale == (before.at is not None or before.stale)


@given(hosts, st.sampled_from([True, False, None]))
def test_a_listed_guest_is_present(before: HostObservation, running: bool | None) -> None:
    after = fold_guest(before, guest(running), NOW, NOW)
    power = {True: Power.ON, False: Power.OFF, None: Power.UNKNOWN}[running]
    assert (after.presence, after.power, after.absences, after.at) == (Presence.PRESENT, power, 0, NOW)
    assert after.reason
    if (before.presence, before.power) == (after.presence, after.power) and before.since is not None:
        assert after.since == before.since
    else:
        assert after.since == NOW


@given(hosts, st.booleans(), st.sampled_from([True, False, None]))
def test_what_was_looked_at_holds_against_an_older_list(
    before: HostObservation, running: bool, listed: bool | None
) -> None:
    seen = fold_look(before, "pve1", running, NOW)
    assert (seen.presence, seen.power) == (Presence.PRESENT, Power.ON if running else Power.OFF)
    assert (seen.at, seen.node, seen.absences) == (NOW, "pve1", 0)
    locked = replace(guest(listed), node="pve2", lock="backup")
    older = fold_guest(seen, locked, NOW + 2, as_of=NOW - 1)
    assert (older.power, older.since) == (seen.power, seen.since)
    assert (older.node, older.lock) == ("pve2", "backup"), "those are never old"
    assert fold_guest(older, None, NOW + 2, as_of=NOW - 1) is older
    newer = fold_guest(older, guest(listed), NOW + 9, as_of=NOW)
    assert newer.power is {True: Power.ON, False: Power.OFF, None: Power.UNKNOWN}[listed]
    unsure = fold_failure(older, Unreachable("refused"), NOW + 3)
    assert fold_guest(unsure, guest(), NOW + 4, as_of=NOW - 1).power is Power.ON, "of what is unknown, any list tells"


@given(hosts)
def test_a_failure_makes_power_unknown_and_counts_no_absence(before: HostObservation) -> None:
    after = fold_failure(before, Unreachable("refused"), NOW)
    assert (after.presence, after.power) == (Presence.UNKNOWN, Power.UNKNOWN)
    assert (after.absences, after.at, after.node) == (before.absences, before.at, before.node)
    assert "refused" in after.reason


def test_absent_once_is_not_absent() -> None:
    seen = fold_guest(HostObservation(), guest(), NOW, NOW)
    for number in range(1, 5):
        seen = fold_guest(seen, None, NOW + number, NOW)
        assert seen.power is Power.UNKNOWN
        assert seen.node == "pve1"
        confirmed = number >= CONFIRMED_ABSENCES
        assert seen.presence is (Presence.ABSENT if confirmed else Presence.UNKNOWN)
    seen = fold_guest(seen, guest(), NOW + 9, NOW)
    assert (seen.presence, seen.absences) == (Presence.PRESENT, 0)


def test_a_failure_between_two_absences_does_not_confirm() -> None:
    seen = fold_guest(fold_guest(HostObservation(), guest(), NOW, NOW), None, NOW + 1, NOW)
    seen = fold_failure(seen, Unreachable("refused"), NOW + 2)
    assert seen.presence is Presence.UNKNOWN


def test_a_vmid_that_somebody_else_uses_now_is_not_ours() -> None:
    row = a_row()
    ours = replace(guest(), name=row.hostname)
    assert own({5001: ours}, row) is ours
    assert own({5002: ours}, row) is None
    assert own({5001: replace(ours, name="somebody-elses")}, row) is None
    assert own({5001: replace(ours, kind="qemu")}, row) is None
    nameless = replace(ours, name="", running=None)
    assert own({5001: nameless}, row) is nameless, "its node is away"


def test_an_agent_was_met_where_it_took_our_token() -> None:
    met = fold_round(AgentObservation(), replace(GOOD, address="10.0.0.5"), NOW, 3)
    assert met.met_at == "10.0.0.5"
    assert fold_round(met, replace(MISSED, address="10.0.0.5"), NOW, 3).met_at == "10.0.0.5"
    # Somebody else is there by now.
    assert fold_round(met, replace(MISSED, address="10.0.0.5", refused=True), NOW, 3).met_at is None
    assert fold_round(met, replace(GOOD, address="10.0.0.6"), NOW, 3).met_at == "10.0.0.6"
    assert not_asked(met, "the container is off").met_at is None
