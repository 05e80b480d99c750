"""Answers as values, and answers of the wrong shape."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.drivers.errors import Invalid
from zlh.drivers.proxmox import Upid, answers
from zlh.drivers.proxmox.answers import Task, TaskStatus

UPID = "UPID:pve-1:000D7AA2:08D5A17C:63DF62A5:vzclone:9000:root@pam!zlh:"

READERS = [
    answers.cluster,
    answers.guest_config,
    answers.guest_status,
    answers.task_status,
    answers.tasks,
    answers.addresses,
    answers.version,
    Upid.parse,
]
KEYS = st.sampled_from(
    [
        "type",
        "node",
        "vmid",
        "name",
        "status",
        "template",
        "lock",
        "tags",
        "maxmem",
        "mem",
        "uptime",
        "memory",
        "cores",
        "rootfs",
        "net0",
        "onboot",
        "upid",
        "endtime",
        "exitstatus",
        "inet",
        "inet6",
        "ip-addresses",
        "ip-address",
    ]
)
WORDS = st.sampled_from(["node", "lxc", "qemu", "running", "stopped", "OK", "RUNNING", "size=8G", "nan", "-1", UPID])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=8),
    max_leaves=20,
)


@pytest.mark.parametrize("reader", READERS)
@given(data=JSON)
def test_any_json_is_a_value_or_invalid(reader: Callable[[object], object], data: object) -> None:
    try:
        reader(data)
    except Invalid:
        pass


def node(**fields: object) -> dict[str, object]:
    return {
        "type": "node",
        "node": "pve1",
        "status": "online",
        "maxmem": 10,
        "mem": 4,
        "maxcpu": 8,
        "cpu": 0.5,
    } | fields


def guest(**fields: object) -> dict[str, object]:
    return {"type": "lxc", "node": "pve1", "vmid": 5001, "name": "a", "status": "running", "template": 0} | fields


def test_a_guest_whose_state_is_not_told_is_unknown() -> None:
    for status, running in (("running", True), ("stopped", False), ("unknown", None), ("paused", None)):
        (found,) = answers.cluster([node(), guest(status=status)]).guests
        assert found.running is running
    (found,) = answers.cluster([node(), {"type": "lxc", "node": "pve1", "vmid": 5001}]).guests
    assert (found.running, found.name, found.template, found.tags) == (None, "", False, ())


def test_a_container_of_its_own_runs_or_does_not() -> None:
    """Who looks at one container acts on it: what is neither must not pass for stopped."""
    assert answers.guest_status({"status": "running"}).running
    assert not answers.guest_status({"status": "stopped"}).running
    for status in ("unknown", "paused", "", None, 0):
        with pytest.raises(Invalid):
            answers.guest_status({"status": status})


def test_numbers_may_come_as_strings() -> None:
    (found,) = answers.cluster([node(), guest(vmid="5001", maxmem="1024", name=42, template="1")]).guests
    assert (found.vmid, found.memory, found.name, found.template) == (5001, 1024, "42", True)


def test_one_bad_guest_spoils_the_answer() -> None:
    for bad in (guest(vmid=None), guest(vmid=0), guest(vmid=True), guest(node=None), guest(template="x"), 7, None):
        with pytest.raises(Invalid):
            answers.cluster([node(), guest(), bad])


def test_an_answer_without_nodes_is_not_an_empty_cluster() -> None:
    for data in ([], [{"type": "storage", "id": "x"}], [guest()]):
        with pytest.raises(Invalid, match=r"Sys\.Audit"):
            answers.cluster(data)


def test_other_kinds_of_resource_are_passed_over() -> None:
    found = answers.cluster([node(), {"type": "storage"}, {"type": "sdn"}, {"type": "pool"}, guest(type="qemu")])
    assert len(found.nodes) == 1
    assert [item.kind for item in found.guests] == ["qemu"]


@pytest.mark.parametrize(
    ("rootfs", "gib"),
    [
        ("local-lvm:vm-5001-disk-0,size=8G", 8.0),
        ("a:b,mountoptions=noatime,size=512M", 0.5),
        ("a:b,size=1T", 1024.0),
        ("a:b,size=1.5G", 1.5),
        ("a:b", None),
        ("", None),
    ],
)
def test_disk_sizes(rootfs: str, gib: float | None) -> None:
    assert answers.guest_config({"rootfs": rootfs}).disk_gib == gib


def test_a_size_that_is_none() -> None:
    with pytest.raises(Invalid):
        answers.guest_config({"rootfs": "a:b,size=big"})


def test_addresses_of_old_and_new_answers() -> None:
    assert answers.addresses(None) == ()
    assert answers.addresses([{"name": "eth0", "hwaddr": "x"}]) == ()
    old = [
        {"name": "lo", "inet": "127.0.0.1/8", "inet6": "::1/128"},
        {"name": "eth0", "inet": "10.0.0.5/24", "inet6": "fe80::1/64"},
    ]
    assert answers.addresses(old) == ("10.0.0.5",)
    new = [
        {
            "name": "eth0",
            "inet6": "2001:db8::5/64",
            "ip-addresses": [
                {"ip-address": "2001:db8::5", "ip-address-type": "inet6", "prefix": "64"},
                {"ip-address": "fe80::1", "ip-address-type": "inet6", "prefix": "64"},
                {"ip-address": "169.254.1.1", "ip-address-type": "inet", "prefix": "16"},
                {"ip-address": "10.0.0.5", "ip-address-type": "inet", "prefix": "24"},
            ],
        }
    ]
    assert answers.addresses(new) == ("10.0.0.5", "2001:db8::5")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"status": "running"}, TaskStatus(running=True, succeeded=False, exit_status=None)),
        ({"status": "stopped", "exitstatus": "OK"}, TaskStatus(running=False, succeeded=True, exit_status="OK")),
        (
            {"status": "stopped", "exitstatus": "WARNINGS: 3"},
            TaskStatus(running=False, succeeded=True, exit_status="WARNINGS: 3"),
        ),
        ({"status": "stopped", "exitstatus": "x"}, TaskStatus(running=False, succeeded=False, exit_status="x")),
        ({"status": "stopped"}, TaskStatus(running=False, succeeded=False, exit_status="unexpected status")),
    ],
)
def test_tasks_end_well_or_not(answer: object, expected: TaskStatus) -> None:
    assert answers.task_status(answer) == expected


def test_a_task_list() -> None:
    assert answers.tasks([{"upid": UPID}]) == (
        Task(UPID, "vzclone", "9000", 0x63DF62A5, None, TaskStatus(running=True, succeeded=False, exit_status=None)),
    )
    (task,) = answers.tasks([{"upid": UPID, "endtime": 1700000000, "status": "no space"}])
    assert (task.ended, task.status.succeeded, task.status.exit_status) == (1700000000, False, "no space")
    (task,) = answers.tasks([{"upid": UPID, "status": "RUNNING"}])
    assert task.status.running


def test_a_upid_taken_apart() -> None:
    upid = Upid.parse(UPID)
    assert (upid.node, upid.type, upid.guest, upid.user) == ("pve-1", "vzclone", "9000", "root@pam!zlh")
    assert upid.started == 0x63DF62A5
