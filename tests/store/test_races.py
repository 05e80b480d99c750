"""Real connections in real threads, all at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

import pytest
import sqlalchemy as sa

from tests.store.samples import NOW, PLAN, STEPS, VMIDS, a_game, add_account, reserve
from zlh.model.containers import Container, Resources
from zlh.model.errors import ConflictError, PlanLimitError, ProblemError
from zlh.model.operations import Operation, OperationKind
from zlh.model.schedules import Action, Schedule, Wish
from zlh.store import containers, idempotency, operations, schedules
from zlh.store.idempotency import Fresh, Stored

T = TypeVar("T")
CROWD = 8


def at_once(engine: sa.Engine, work: Sequence[Callable[[sa.Connection], T]]) -> list[T | ProblemError]:
    """Each in a transaction of its own, begun before the first may go on."""
    gate = threading.Barrier(len(work), timeout=10)

    def run(one: Callable[[sa.Connection], T]) -> T | ProblemError:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
            gate.wait()
            try:
                result = one(connection)
            except ProblemError as error:
                return error
            connection.commit()
            return result

    with ThreadPoolExecutor(len(work)) as threads:
        return list(threads.map(run, work))


@pytest.fixture
def owner_id(engine: sa.Engine) -> int:
    with engine.begin() as connection:
        return add_account(connection).id


def test_the_last_place_of_a_plan_is_given_once(engine: sa.Engine, owner_id: int) -> None:
    plan = replace(PLAN, games=1)
    answers = at_once(engine, [lambda connection: reserve(connection, owner_id, plan=plan)] * CROWD)
    assert sum(isinstance(one, PlanLimitError) for one in answers) == CROWD - 1
    with engine.connect() as connection:
        assert len(containers.all_containers(connection)) == 1
        assert len(operations.unfinished(connection)) == 1


def test_the_last_memory_of_a_plan_is_given_once(engine: sa.Engine, owner_id: int) -> None:
    """A new container and a larger one at the same moment: the sum stays within the plan."""
    with engine.begin() as connection:
        vmid = reserve(connection, owner_id)[0].vmid
    half = Resources(PLAN.memory_mib - 1024, 1, 10)
    work: list[Callable[[sa.Connection], object]] = [
        lambda connection: reserve(connection, owner_id, request=a_game(resources=half)),
        lambda connection: containers.resize_within(connection, vmid, Resources(2048, 1, 10), PLAN),
    ]
    answers = at_once(engine, work)
    assert sum(isinstance(one, PlanLimitError) for one in answers) == 1
    with engine.connect() as connection:
        assert containers.usage(connection, owner_id).memory_mib <= PLAN.memory_mib


def test_no_vmid_and_no_address_is_given_twice(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        owners = [add_account(connection, f"owner{number}").id for number in range(CROWD)]
    pool = [f"192.0.2.{number}" for number in range(1, 20)]

    def one(owner_id: int, vmids: range) -> Callable[[sa.Connection], tuple[Container, Operation]]:
        return lambda connection: reserve(connection, owner_id, vmids=vmids, address_pool=pool)

    ranges = (VMIDS, range(6000, 6010))
    answers = at_once(engine, [one(owner, ranges[index % 2]) for index, owner in enumerate(owners)])
    made = [answer[0] for answer in answers if isinstance(answer, tuple)]
    assert len({container.vmid for container in made}) == CROWD
    assert len({container.address for container in made}) == CROWD


def test_one_operation_in_flight(engine: sa.Engine, owner_id: int) -> None:
    def begin(connection: sa.Connection) -> Operation:
        return operations.begin(connection, OperationKind.STOP_HOST, 5000, owner_id=owner_id, steps=STEPS, now=NOW)

    answers = at_once(engine, [begin] * CROWD)
    assert sum(isinstance(one, Operation) for one in answers) == 1
    refused = [one for one in answers if isinstance(one, ConflictError)]
    assert len(refused) == CROWD - 1
    assert {one.code for one in refused} == {"operation_in_flight"}


def test_the_journal_has_one_line_of_history(engine: sa.Engine, owner_id: int) -> None:
    """Nobody's write is lost, and no revision is given twice."""
    with engine.begin() as connection:
        operation = reserve(connection, owner_id)[1]

    def write(number: int) -> Callable[[sa.Connection], Operation]:
        return lambda connection: operations.step_data(connection, operation.id, STEPS[0], {f"n{number}": 1}, NOW)

    answers = at_once(engine, [write(number) for number in range(CROWD)])
    revisions = [one.revision for one in answers if isinstance(one, Operation)]
    assert sorted(revisions) == list(range(1, CROWD + 1))
    with engine.connect() as connection:
        kept = operations.get(connection, operation.id)
    assert kept is not None
    assert kept.step(STEPS[0]).data == {f"n{number}": 1 for number in range(CROWD)}


def test_an_idempotency_key_is_carried_out_once(engine: sa.Engine, owner_id: int) -> None:
    def request(connection: sa.Connection) -> bytes:
        claimed = idempotency.claim(connection, owner_id, "key", "hash", NOW)
        if isinstance(claimed, Stored):
            return claimed.body
        container, _ = reserve(connection, owner_id)
        idempotency.complete(connection, claimed, 202, str(container.vmid).encode())
        return str(container.vmid).encode()

    assert at_once(engine, [request] * CROWD) == [b"5000"] * CROWD
    with engine.connect() as connection:
        assert len(containers.all_containers(connection)) == 1


def test_a_dead_claim_is_taken_over_once(engine: sa.Engine, owner_id: int) -> None:
    later = NOW + idempotency.TAKE_OVER_AFTER
    with engine.begin() as connection:
        idempotency.claim(connection, owner_id, "key", "hash", NOW)
    answers = at_once(engine, [lambda c: idempotency.claim(c, owner_id, "key", "hash", later)] * CROWD)
    assert sum(isinstance(one, Fresh) for one in answers) == 1
    assert sum(isinstance(one, ConflictError) for one in answers) == CROWD - 1


def test_two_who_change_a_schedule_at_once_change_both(engine: sa.Engine, owner_id: int) -> None:
    wish = Wish(name="nightly", action=Action.COMMAND, cron="0 4 * * *", command="say hi")
    with engine.begin() as connection:
        vmid = reserve(connection, owner_id)[0].vmid
        plan = replace(PLAN, schedules=1)
        made = schedules.create(connection, vmid, wish, author_id=owner_id, plan=plan, now=NOW)

    def change(**changes: object) -> Callable[[sa.Connection], Schedule]:
        def edit(found: Wish) -> Wish:
            return replace(found, **changes)  # type: ignore[arg-type]  # fields of a wish

        return lambda connection: schedules.change(connection, vmid, made.id, edit, author_id=owner_id, now=NOW)

    changes = {"name": "mine", "cron": "0 5 * * *", "zone": "Europe/Berlin", "command": "say ho", "enabled": False}
    at_once(engine, [change(**{name: value}) for name, value in changes.items()])
    with engine.connect() as connection:
        assert schedules.get(connection, vmid, made.id).wish == replace(wish, **changes)  # type: ignore[arg-type]


def test_of_many_who_want_one_name_one_gets_it(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        container, _ = reserve(connection, add_account(connection).id)
        rows = [
            replace(container, vmid=20_000 + number, hostname=f"game-{20_000 + number}", address=None)
            for number in range(CROWD)
        ]
        containers.insert(connection, rows)

    def choose(vmid: int, connection: sa.Connection) -> Container:
        return containers.set_label(connection, vmid, "castle")

    answers = at_once(engine, [partial(choose, row.vmid) for row in rows])
    assert len([answer for answer in answers if isinstance(answer, Container)]) == 1
    refusals = [answer for answer in answers if isinstance(answer, ConflictError)]
    assert {refusal.code for refusal in refusals} == {"name_taken"}
    assert len(refusals) == CROWD - 1
