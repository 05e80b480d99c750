"""Who may go next: places for operations, turns at templates and nodes, and the moments of polls. All pure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.containers.samples import observations
from tests.containers.samples import operations as any_operation
from zlh.containers.admission import Admission
from zlh.containers.cadence import JITTER, TRANSITIONS, due, interval
from zlh.containers.options import Polling
from zlh.containers.turnstile import Turnstile
from zlh.model.containers import Power
from zlh.model.observed import Liveness, Observed
from zlh.model.operations import Operation

VMIDS = st.integers(5000, 5011)


class AdmissionMachine(RuleBasedStateMachine):
    """Containers 5000 to 5011 of three owners, who want places and give them up as they please."""

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(3)
        self.wanting: set[int] = set()

    @rule(vmid=VMIDS)
    def enter(self, vmid: int) -> None:
        inside = self.admission.enter(vmid, vmid % 3)
        self.wanting.add(vmid)
        assert inside == (vmid in self.admission.inside)
        again = self.admission.waiting
        assert self.admission.enter(vmid, vmid % 3) == inside
        assert self.admission.waiting == again

    @rule(vmid=VMIDS)
    def leave(self, vmid: int) -> None:
        before = self.admission.inside
        granted = self.admission.leave(vmid)
        self.wanting.discard(vmid)
        assert set(granted) == self.admission.inside - before
        assert self.admission.leave(vmid) == []

    @invariant()
    def no_place_is_empty_while_someone_waits(self) -> None:
        inside = self.admission.inside
        assert len(inside) == min(3, len(self.wanting))
        assert inside <= self.wanting
        assert len(inside) + self.admission.waiting == len(self.wanting)


TestAdmission = AdmissionMachine.TestCase


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 4))
def test_everybody_gets_a_place_and_owners_take_turns(owners: list[int], places: int) -> None:
    admission = Admission(places)
    order: list[int] = [vmid for vmid, owner in enumerate(owners) if admission.enter(vmid, owner)]
    # Who waits when the first place becomes free; all take turns from then on.
    waiting = [vmid for vmid in range(len(owners)) if vmid not in order]
    for vmid in order:
        order.extend(admission.leave(vmid))
    assert sorted(order) == list(range(len(owners)))
    queued = order[len(owners) - len(waiting) :]
    for owner in set(owners):
        own = [vmid for vmid in queued if owners[vmid] == owner]
        assert own == sorted(own), "an owner's own are served in order"
        others = len({owners[vmid] for vmid in waiting} - {owner})
        for number, vmid in enumerate(own):
            assert queued.index(vmid) <= number + (number + 1) * others


class TurnstileMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.nudged: list[int] = []
        self.turnstile = Turnstile(2, self.nudged.append)
        self.inside: dict[str, set[int]] = {"a": set(), "b": set()}
        self.line: dict[str, list[int]] = {"a": [], "b": []}

    @rule(vmid=VMIDS, key=st.sampled_from("ab"))
    def enter(self, vmid: int, key: str) -> None:
        may = vmid in self.inside[key] or len(self.inside[key]) < 2
        assert self.turnstile.enter(key, vmid) == may
        if vmid in self.inside[key]:
            return
        if may:
            self.inside[key].add(vmid)
            self.line[key] = [one for one in self.line[key] if one != vmid]
        elif vmid not in self.line[key]:
            self.line[key].append(vmid)

    @rule(vmid=VMIDS, key=st.sampled_from("ab"))
    def adopt(self, vmid: int, key: str) -> None:
        self.turnstile.adopt(key, vmid)
        self.inside[key].add(vmid)
        self.line[key] = [one for one in self.line[key] if one != vmid]

    @rule(vmid=VMIDS)
    def leave(self, vmid: int) -> None:
        self.nudged.clear()
        self.turnstile.leave(vmid)
        for key in "ab":
            held = vmid in self.inside[key] or vmid in self.line[key]
            self.inside[key].discard(vmid)
            self.line[key] = [one for one in self.line[key] if one != vmid]
            if held and self.line[key] and len(self.inside[key]) < 2:
                assert self.line[key][0] in self.nudged
        self.nudged.clear()
        self.turnstile.leave(vmid)
        assert self.nudged == []


TestTurnstile = TurnstileMachine.TestCase


@given(observations, st.one_of(st.none(), any_operation()), st.booleans())
def test_the_interval_is_one_of_three(observed: Observed, operation: Operation | None, commanded: bool) -> None:
    polling = Polling()
    seconds = interval(polling, observed, operation, commanded=commanded)
    assert seconds in (polling.transition_seconds, polling.running_seconds, polling.stopped_seconds)
    agent = observed.agent
    if operation is not None or commanded:
        assert seconds == polling.transition_seconds
    elif observed.host.power is Power.OFF:
        assert seconds == polling.stopped_seconds
    elif agent.liveness is Liveness.OFFLINE and agent.misses >= polling.misses and not agent.stale:
        # A dead agent is not asked more often than a living one.
        assert seconds == polling.running_seconds
    elif agent.liveness is Liveness.ONLINE and agent.status and agent.status.state in TRANSITIONS:
        assert seconds == polling.transition_seconds


@given(st.floats(0, 1e6), st.floats(0.1, 60), st.sampled_from([0.0, 0.05, 0.5]), st.floats(0, 1))
def test_polls_are_due_on_the_grid_and_near_their_interval(
    now: float, seconds: float, tick: float, random: float
) -> None:
    at = due(now, seconds, tick, random)
    slack = 1e-6
    assert now + seconds * (1 - JITTER) - slack <= at <= now + seconds * (1 + JITTER) + tick + slack
    if tick:
        assert abs(at / tick - round(at / tick)) < 1e-3
