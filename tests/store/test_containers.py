from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.store.samples import NOW, PLAN, SMALL, STEPS, VAULT, VMIDS, a_game, add_account, reserve
from zlh.model.containers import ContainerType, Desired, Lifecycle, Power, Resources
from zlh.model.errors import AbsentError, ConflictError, ForbiddenError, PlanLimitError, UnavailableError
from zlh.model.operations import OperationKind, OperationState, StepState
from zlh.model.plans import Usage
from zlh.store import Vault, VaultError, accounts, containers, operations
from zlh.store.containers import Recorded


@pytest.fixture
def owner_id(connection: sa.Connection) -> int:
    return add_account(connection).id


def test_a_reservation_is_a_container_and_an_operation(connection: sa.Connection, owner_id: int) -> None:
    container, operation = reserve(
        connection, owner_id, zone="zlh.test", address_pool=["192.0.2.1"], actor_id=owner_id
    )
    assert container.vmid == 5000
    assert container.hostname == "my-server-5000.zlh.test"
    assert container.ctype is ContainerType.GAME
    assert container.software == a_game().software
    assert container.resources == SMALL
    assert container.ports == (25565, 25575)
    assert container.address == "192.0.2.1"
    assert container.agent_token == "secret-token"
    assert container.desired == Desired(Lifecycle.PRESENT, Power.ON, suspended=False)
    assert container.created_at == NOW
    assert (container.provisioned, container.node, container.agent_state) == (False, "", "unknown")
    assert operation.kind is OperationKind.PROVISION
    assert (operation.vmid, operation.owner_id, operation.actor_id) == (5000, owner_id, owner_id)
    assert operation.queued
    assert tuple(step.name for step in operation.steps) == STEPS
    assert containers.get(connection, 5000) == container
    assert containers.all_containers(connection) == containers.of_owner(connection, owner_id) == [container]
    assert operations.get(connection, operation.id) == operation


def test_what_exists_already_is_recorded_as_it_is(connection: sa.Connection, owner_id: int) -> None:
    container, _operation = reserve(connection, owner_id, address_pool=["192.0.2.1"])
    found = replace(
        container, vmid=20_000, hostname="found-20000", address="192.0.2.9", node="pve1", provisioned=True
    )
    containers.insert(connection, [found])
    assert containers.get(connection, 20_000) == found
    containers.insert(connection, [])
    with pytest.raises(ConflictError), connection.begin_nested():
        containers.insert(connection, [replace(found, vmid=20_001)])
    assert containers.get(connection, 20_001) is None


def test_the_token_is_sealed_in_the_table(connection: sa.Connection, owner_id: int) -> None:
    reserve(connection, owner_id)
    kept = connection.execute(sa.text("SELECT agent_token FROM containers")).scalar_one()
    assert b"secret-token" not in bytes(kept)
    assert VAULT.open(kept) == "secret-token"


def test_another_installation_s_key_opens_nothing(
    engine: sa.Engine, connection: sa.Connection, owner_id: int
) -> None:
    reserve(connection, owner_id)
    connection.execution_options(vault=Vault([Vault.new_key()]))
    with pytest.raises(VaultError):
        containers.get(connection, 5000)
    connection.execution_options(vault=None)
    with pytest.raises(VaultError):
        containers.get(connection, 5000)


def test_the_plan_is_the_limit(connection: sa.Connection, owner_id: int) -> None:
    for _ in range(3):
        reserve(connection, owner_id)
    with pytest.raises(PlanLimitError):
        reserve(connection, owner_id)
    assert len(containers.all_containers(connection)) == 3
    assert len(operations.unfinished(connection)) == 3
    assert containers.usage(connection, owner_id) == Usage(games=3, memory_mib=3072, cpu_cores=3, disk_gib=30)


def test_a_suspended_and_an_unknown_owner_get_nothing(connection: sa.Connection, owner_id: int) -> None:
    accounts.suspend(connection, owner_id, NOW)
    with pytest.raises(ForbiddenError) as caught:
        reserve(connection, owner_id)
    assert caught.value.code == "suspended"
    with pytest.raises(AbsentError):
        reserve(connection, 404)


def test_vmids_go_round_and_skip_what_is_taken(connection: sa.Connection, owner_id: int) -> None:
    first, operation = reserve(connection, owner_id)
    finish(connection, operation.id)
    containers.delete(connection, first.vmid)
    second, _ = reserve(connection, owner_id, exclude={5001, 5002})
    assert second.vmid == 5003
    third, _ = reserve(connection, owner_id, exclude=set(range(5004, 5010)))
    assert third.vmid == 5000


def test_the_vmid_of_an_operation_in_flight_is_not_free(connection: sa.Connection, owner_id: int) -> None:
    first, _ = reserve(connection, owner_id)
    containers.delete(connection, first.vmid)
    with pytest.raises(UnavailableError):
        reserve(connection, owner_id, exclude=set(VMIDS) - {first.vmid})


def test_no_place_left_changes_nothing(connection: sa.Connection, owner_id: int) -> None:
    with pytest.raises(UnavailableError):
        reserve(connection, owner_id, exclude=set(VMIDS))
    with pytest.raises(UnavailableError):
        reserve(connection, owner_id, address_pool=[])
    assert containers.all_containers(connection) == []


def test_addresses_are_given_once(connection: sa.Connection, owner_id: int) -> None:
    pool = ["192.0.2.1", "192.0.2.2"]
    first, _ = reserve(connection, owner_id, address_pool=pool)
    second, _ = reserve(connection, owner_id, address_pool=pool)
    assert {first.address, second.address} == set(pool)
    with pytest.raises(ConflictError) as caught:
        containers.set_address(connection, second.vmid, first.address)
    assert caught.value.details == {"vmid": first.vmid}
    assert containers.set_address(connection, second.vmid, "192.0.2.9").address == "192.0.2.9"
    assert containers.set_address(connection, first.vmid, None).address is None


def test_changes_come_back(connection: sa.Connection, owner_id: int) -> None:
    vmid = reserve(connection, owner_id)[0].vmid
    wanted = Desired(Lifecycle.ABSENT, Power.OFF, True, NOW, NOW + timedelta(hours=1), game_held=True)
    assert containers.set_desired(connection, vmid, wanted).desired == wanted
    assert containers.set_node(connection, vmid, "pve2").node == "pve2"
    assert containers.mark_provisioned(connection, vmid).provisioned
    larger = Resources(2048, 2, 20)
    changed = containers.set_resources(connection, vmid, larger)
    assert changed.resources == larger
    assert changed.updated_at > changed.created_at
    assert containers.get(connection, vmid) == changed


def test_changing_what_is_gone_says_so(connection: sa.Connection) -> None:
    with pytest.raises(AbsentError):
        containers.set_node(connection, 5000, "pve1")
    with pytest.raises(AbsentError):
        containers.renumber(connection, 5000, vmids=VMIDS, now=NOW)
    with pytest.raises(AbsentError):
        containers.resize_within(connection, 5000, SMALL, PLAN)
    assert not containers.delete(connection, 5000)
    assert containers.get(connection, 5000) is None


def test_resizing_counts_the_others_but_not_itself(connection: sa.Connection, owner_id: int) -> None:
    vmid = reserve(connection, owner_id)[0].vmid
    reserve(connection, owner_id)
    most = Resources(PLAN.memory_mib - 1024, PLAN.cpu_cores - 1, PLAN.disk_gib - 10)
    assert containers.resize_within(connection, vmid, most, PLAN).resources == most
    with pytest.raises(PlanLimitError):
        containers.resize_within(connection, vmid, Resources(most.memory_mib + 1, 1, 1), PLAN)


def test_a_taken_vmid_is_left_for_the_next(connection: sa.Connection, owner_id: int) -> None:
    container, operation = reserve(connection, owner_id, zone="zlh.test")
    moved, followed = containers.renumber(connection, container.vmid, vmids=VMIDS, exclude={5001}, now=NOW)
    assert moved.vmid == 5002
    assert moved.hostname == "my-server-5002.zlh.test"
    assert moved.agent_token == container.agent_token
    assert followed is not None
    assert (followed.id, followed.vmid, followed.revision) == (operation.id, 5002, operation.revision + 1)
    assert containers.get(connection, container.vmid) is None
    assert operations.get(connection, operation.id) == followed


def test_observations_are_recorded_in_bulk(connection: sa.Connection, owner_id: int) -> None:
    first, second = (reserve(connection, owner_id)[0] for _ in range(2))
    seen = NOW + timedelta(minutes=1)
    containers.record_observations(
        connection,
        [
            Recorded(second.vmid, "crashed", seen, 2, seen),
            Recorded(first.vmid, "running", seen, 0, None),
            Recorded(5999, "running", seen, 0, None),
        ],
    )
    kept = containers.get(connection, second.vmid)
    assert kept is not None
    assert (kept.agent_state, kept.agent_last_seen, kept.crash_count, kept.last_crash_at) == (
        "crashed",
        seen,
        2,
        seen,
    )
    assert kept.updated_at == second.updated_at
    containers.record_observations(connection, [Recorded(second.vmid, "unknown", None, 3, None)])
    kept = containers.get(connection, second.vmid)
    assert kept is not None
    assert (kept.agent_state, kept.agent_last_seen, kept.crash_count, kept.last_crash_at) == (
        "unknown",
        None,
        3,
        None,
    )
    containers.record_observations(connection, [])


def finish(connection: sa.Connection, operation_id: str) -> None:
    for name in STEPS:
        operations.step_started(connection, operation_id, name, NOW)
        assert operations.step_done(connection, operation_id, name, NOW).step(name).state is StepState.DONE
    operations.set_state(connection, operation_id, OperationState.SUCCEEDED, NOW)


def test_a_chosen_name_is_one_containers_alone(connection: sa.Connection, owner_id: int) -> None:
    first, _ = reserve(connection, owner_id, zone="zlh.test")
    second, _ = reserve(connection, owner_id, zone="zlh.test")
    assert containers.set_label(connection, first.vmid, "castle").dns_name == "castle.zlh.test"
    with pytest.raises(ConflictError, match="castle"), connection.begin_nested():
        containers.set_label(connection, second.vmid, "castle")
    assert containers.set_label(connection, first.vmid, None).dns_name == first.hostname
    assert containers.set_label(connection, second.vmid, "castle").label == "castle"


def test_the_default_name_of_another_is_never_chosen(connection: sa.Connection, owner_id: int) -> None:
    """No rule of names forbids it for containers that were imported."""
    imported, _ = reserve(connection, owner_id)
    containers.insert(connection, [replace(imported, vmid=20_000, hostname="Castle.zlh.test", address=None)])
    with pytest.raises(ConflictError) as raised, connection.begin_nested():
        containers.set_label(connection, imported.vmid, "castle")
    assert raised.value.code == "name_taken"
    assert containers.set_label(connection, 20_000, "castle").dns_name == "castle.zlh.test"
