"""Proxmox's words and our errors."""

from __future__ import annotations

import re

import pytest
from fakepve import errors as catalogue
from hypothesis import given
from hypothesis import strategies as st

from zlh.drivers.errors import (
    AlreadyExists,
    Conflict,
    DriverError,
    Invalid,
    Locked,
    NotFound,
    Refused,
    Unreachable,
    Unsupported,
)
from zlh.drivers.proxmox import TaskStatus
from zlh.drivers.proxmox.refusals import refusal

WORDS = [
    (500, "can't lock file '/run/lock/lxc/pve-config-5001.lock' - got timeout\n", Locked),
    (500, "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout", Locked),
    (500, "CT is locked (disk)", Locked),
    (500, "VM is locked (backup)", Locked),
    (500, "cfs-lock 'file-user_cfg' error: got lock request timeout", Locked),
    (500, "error during cfs-locked 'storage-a' operation: got lock request timeout", Locked),
    (500, "CT 5001 already exists on node 'pve1'", AlreadyExists),
    (500, "unable to create CT 5001 - CT 5001 already exists on node 'pve2'", AlreadyExists),
    (500, "Configuration file 'nodes/pve1/lxc/5001.conf' does not exist", NotFound),
    (500, "unable to find configuration file for CT 5001 on node 'pve1'", NotFound),
    (404, "Not Found", NotFound),
    (500, "CT 5001 already running", Conflict),
    (500, "CT 5001 not running", Conflict),
    (500, "unable to destroy CT 5001 - container is running", Conflict),
    (500, "detected modified configuration - file changed by other user? Try again.", Conflict),
    (500, "disk is already at specified size", Conflict),
    (500, "unable to shrink disk size", Refused),
    (500, "storage 'gone' does not exist", Refused),
    (500, "can't clone CT to node 'pve2' (CT uses local storage)", Refused),
    (500, "can't remove CT 5001 - protection mode enabled", Refused),
    (400, "Parameter verification failed.", Refused),
    (401, "authentication failure", Refused),
    (403, "Permission check failed (/vms/5001, VM.Clone)", Refused),
    (413, "Request Entity Too Large", Refused),
    (501, "Method 'POST /nodes/pve1/lxc/1/x' not implemented", Unsupported),
    (429, "Too Many Requests", Unreachable),
    (500, "cluster not ready - no quorum?", Unreachable),
    (500, "hostname lookup 'pve9' failed - failed to get address info for: pve9", Unreachable),
    (500, "got an unexpected error", Unreachable),
    (502, "Bad Gateway", Unreachable),
    (503, "Service Unavailable", Unreachable),
    (595, "No route to host", Unreachable),
    (596, "Connection timed out", Unreachable),
    (302, "Found", Invalid),
]


@pytest.mark.parametrize(("status", "message", "expected"), WORDS)
@pytest.mark.parametrize("mutation", [True, False])
def test_words(status: int, message: str, expected: type[DriverError], mutation: bool) -> None:
    assert type(refusal(status, message, mutation=mutation)) is expected


def test_only_what_we_do_not_understand_may_have_happened() -> None:
    maybe = {
        (status, message) for status, message, _ in WORDS if refusal(status, message, mutation=True).may_have_happened
    }
    assert maybe == {
        (500, "got an unexpected error"),
        (502, "Bad Gateway"),
        (503, "Service Unavailable"),
        (596, "Connection timed out"),
    }


def test_details_say_which_parameter() -> None:
    error = refusal(400, "Parameter verification failed.\n", mutation=True, details={"memory": "too small"})
    assert isinstance(error, Refused)
    assert (error.status, error.details) == (400, {"memory": "too small"})
    assert str(error) == "Parameter verification failed.; memory: too small"
    assert type(refusal(400, "Parameter verification failed.", mutation=False, details={"upid": "no such task"})) is (
        NotFound
    )


@given(st.integers(300, 1000), st.text(), st.booleans(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_anything_becomes_one_of_ours(status: int, message: str, mutation: bool, details: dict[str, str]) -> None:
    error = refusal(status, message, mutation=mutation, details=details)
    assert isinstance(error, DriverError)
    assert "\n" not in str(error) or any("\n" in text for pair in details.items() for text in pair)
    assert mutation or not error.may_have_happened


@pytest.mark.parametrize(
    ("exit_status", "expected"),
    [
        ("CT is locked (backup)", Locked),
        ("can't lock file '/run/lock/lxc/pve-config-5001.lock' - got timeout", Locked),
        ("Configuration file 'nodes/pve1/lxc/5001.conf' does not exist", NotFound),
        ("unable to destroy CT 5001 - container is running", Conflict),
        ("startup for container '5001' failed", Refused),
        ("unexpected status", Refused),
    ],
)
def test_a_task_that_failed(exit_status: str, expected: type[DriverError]) -> None:
    error = TaskStatus(running=False, succeeded=False, exit_status=exit_status).error()
    assert type(error) is expected
    assert str(error) == exit_status
    assert TaskStatus(running=False, succeeded=True, exit_status="OK").error() is None
    assert TaskStatus(running=True, succeeded=False, exit_status=None).error() is None


CALLS = [
    ("POST", "/nodes/pve1/lxc/9000/clone"),
    ("PUT", "/nodes/pve1/lxc/5001/config"),
    ("PUT", "/nodes/pve1/lxc/5001/resize"),
    ("POST", "/nodes/pve1/lxc/5001/status/start"),
    ("POST", "/nodes/pve1/lxc/5001/status/stop"),
    ("POST", "/nodes/pve1/lxc/5001/status/shutdown"),
    ("POST", "/nodes/pve1/lxc/5001/status/reboot"),
    ("DELETE", "/nodes/pve1/lxc/5001"),
]
# Proxmox' own trouble half way, and parameters that we never send.
RIDDLES = re.compile(
    "internal error|unexpected error|did not stop|Lost 'create'|Could not determine|^missing '|'reverse'"
    "|Path (is not|has)|passthrough|parse_volume|snippet|map entry|script|mtu value|mknod|mount point idmap"
)


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_the_catalogue_of_what_proxmox_can_say(method: str, path: str) -> None:
    """Of the errors in PVE's sources that can answer our calls, only Proxmox' own trouble stays a riddle."""
    seen = [
        entry
        for entry in catalogue.errors_for(method, path)
        if not entry["in_task"]
        and refusal(
            entry["status"], entry["message"], mutation=True, details=entry.get("errors") or {}
        ).may_have_happened
    ]
    assert [entry["message"] for entry in seen if not RIDDLES.search(entry["message"])] == []
