"""Folding answers, and the lack of them, into observations. Pure: nothing in here waits or asks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from zlh.drivers.errors import DriverError
from zlh.drivers.proxmox import Guest
from zlh.model.containers import Container, Power
from zlh.model.observed import (
    AgentObservation,
    HostObservation,
    Liveness,
    Players,
    Presence,
    Readiness,
    Status,
    Update,
    Version,
)

CONFIRMED_ABSENCES = 2
"""Complete answers of Proxmox in a row without the container, before it counts as absent."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of polls brought; None where it was not asked, or the agent does not know the endpoint.

    `failure` is why the round as a whole counts as missed: liveness or status could not be had. `address` is where
    the agent was asked, and `refused` says that whoever is there does not take its token.
    """

    status: Status | None = None
    readiness: Readiness | None = None
    version: Version | None = None
    update: Update | None = None
    players: Players | None = None
    failure: str | None = None
    address: str | None = None
    refused: bool = False


def fold_round(previous: AgentObservation, answers: Round, now: float, misses_allowed: int) -> AgentObservation:
    """The next agent observation. A missed round keeps what was last heard, with its age, and counts."""
    if answers.failure is not None:
        misses = previous.misses + 1
        liveness = Liveness.OFFLINE if misses >= misses_allowed else previous.liveness
        met_at = None if answers.refused else previous.met_at
        return dataclasses.replace(
            previous, liveness=liveness, misses=misses, asked_at=now, met_at=met_at, reason=answers.failure
        )
    return AgentObservation(
        liveness=Liveness.ONLINE,
        status=answers.status,
        readiness=answers.readiness,
        version=answers.version or previous.version,
        update=answers.update or previous.update,
        players=answers.players or previous.players,
        players_at=now if answers.players is not None else previous.players_at,
        at=now,
        asked_at=now,
        met_at=answers.address,
        reason="the agent answers",
    )


def not_asked(previous: AgentObservation, reason: str) -> AgentObservation:
    """The container is off or not configured yet: nothing is known of its agent, which is no fault of the agent's."""
    if previous.liveness is Liveness.UNKNOWN and previous.reason == reason:
        return previous
    return AgentObservation(
        liveness=Liveness.UNKNOWN, version=previous.version, at=previous.at, asked_at=previous.asked_at, reason=reason
    )


def stale(previous: AgentObservation) -> AgentObservation:
    """What a restarted poller inherits: kept, but said to be unconfirmed."""
    return dataclasses.replace(previous, stale=True) if previous.at is not None else previous


def own(guests: Mapping[int, Guest], row: Container) -> Guest | None:
    """The entry of this row's container, None where its vmid is not listed, or is somebody else's by now.

    A guest of a node that is away may come without a name, which says nothing.
    """
    guest = guests.get(row.vmid)
    if guest is None or guest.kind != "lxc" or guest.name not in ("", row.hostname):
        return None
    return guest


def fold_guest(previous: HostObservation, guest: Guest | None, now: float, as_of: float) -> HostObservation:
    """`guest` is this container's entry in a complete answer, None where it has none. What changed after `as_of` may
    not be in that answer: against a look that came later it does not count."""
    outdated = previous.looked_at is not None and previous.looked_at > as_of
    if guest is None:
        return previous if outdated else _absent(previous, now)
    power, reason = _power(guest)
    if outdated and power is not previous.power:
        return dataclasses.replace(previous, node=guest.node, lock=guest.lock or "")
    return _since(
        previous,
        HostObservation(
            presence=Presence.PRESENT,
            power=power,
            node=guest.node,
            lock=guest.lock or "",
            at=now,
            looked_at=previous.looked_at,
            reason=reason,
        ),
        now,
    )


def fold_look(previous: HostObservation, node: str, running: bool, now: float) -> HostObservation:
    """What Proxmox said when it was asked about this container alone, on `node`."""
    power, reason = _told(running)
    look = HostObservation(
        presence=Presence.PRESENT,
        power=power,
        node=node,
        lock=previous.lock,
        at=now,
        looked_at=now,
        reason=reason,
    )
    return _since(previous, look, now)


def fold_failure(previous: HostObservation, error: DriverError, now: float) -> HostObservation:
    """Proxmox could not be asked: the power is unknown from now on, never stopped; absences are not counted."""
    return _since(
        previous,
        dataclasses.replace(
            previous,
            presence=Presence.UNKNOWN,
            power=Power.UNKNOWN,
            lock="",
            looked_at=None,
            reason=f"Proxmox could not be asked: {error}",
        ),
        now,
    )


def _absent(previous: HostObservation, now: float) -> HostObservation:
    absences = previous.absences + 1
    presence = Presence.ABSENT if absences >= CONFIRMED_ABSENCES else Presence.UNKNOWN
    reason = "Proxmox does not list it" + ("" if presence is Presence.ABSENT else ", to be confirmed")
    return _since(
        previous,
        HostObservation(
            presence=presence,
            power=Power.UNKNOWN,
            node=previous.node,
            absences=absences,
            at=now,
            reason=reason,
        ),
        now,
    )


def _power(guest: Guest) -> tuple[Power, str]:
    if guest.running is None:
        return Power.UNKNOWN, f"node {guest.node} does not report (is it offline?)"
    return _told(guest.running)


def _told(running: bool) -> tuple[Power, str]:
    return (Power.ON, "Proxmox says running") if running else (Power.OFF, "Proxmox says stopped")


def _since(previous: HostObservation, present: HostObservation, now: float) -> HostObservation:
    same = (previous.presence, previous.power) == (present.presence, present.power)
    return dataclasses.replace(present, since=previous.since if same and previous.since is not None else now)
