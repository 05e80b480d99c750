"""Proxmox's words for "no" -> our errors. Pure.

Proxmox answers nearly every refusal with status 500 and one line of English (a Perl `die`), so the line decides. The
patterns come from the sources of pve-container, pve-guest-common, pve-cluster and pve-http-server (PVE 8 and 9).
A 500 in words that are not known here says nothing about what was done: it becomes `Unreachable`, and for a mutation
`may_have_happened`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

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

_LOCKED = re.compile(
    r"can't lock file .* got timeout|\b(CT|VM) is locked\b|got lock request timeout|cfs-lock .* error", re.DOTALL
)
_EXISTS = re.compile(r"\b(CT|VM) \d+ already exists|config file already exists")
_ABSENT = re.compile(
    r"[Cc]onfiguration file '.*' does not exist|unable to find configuration file"
    r"|no such task|unable to parse worker upid|no such (VM|CT)\b"
)
_CONFLICT = re.compile(
    r"\balready running|\bnot running|container is running|detected modified configuration|checksum mismatch"
    r"|disk is already at specified size"
)
# The cluster or a part of it is away for the moment; refused before anything was done.
_AWAY = re.compile(r"no quorum|hostname lookup '.*' failed|storage '.*' is not online|No route to host")
_REFUSED = re.compile(
    r"unable to shrink|storage '.*' does not (exist|support|allow)|storage '.*' is (disabled|not available)"
    r"|no storage ID|bridge '.*' does not exist|MTU size .* is bigger|SLAAC is not supported"
    r"|unable to (use volume|parse volume)|missing privileges|resize file/device .* is not possible"
    r"|still in use by linked clone|cannot add non-replicatable|no such cluster node|protection mode"
    r"|^you can't|can't clone|can't resize|can't overwrite|not allowed for linked clones|is not available$"
    r"|only possible from a snapshot|used in HA resources|invalid size|invalid format|format error"
    r"|unable to (delete|modify) (required|read-only)|^Only root|^Permission check failed|no options specified"
    r"|is not a template|snapshot '.*' does not exist",
    re.MULTILINE,
)
# pveproxy's own status (AnyEvent::HTTP): it could not connect to the node that owns the guest, so nothing was done.
_NOT_SENT = frozenset({595})
_SLOW_DOWN = frozenset({408, 425, 429})


def refusal(status: int, message: str, *, mutation: bool, details: Mapping[str, str] | None = None) -> DriverError:
    """The error for an answer with this status (300 and up) and Proxmox's message; `details` per parameter."""
    details = details or {}
    line = " ".join(message.split()) or "no message"
    text = "; ".join([line, *(f"{name}: {complaint}" for name, complaint in details.items())])
    told = "\n".join([message, *details.values()])
    if status < 400:
        return Invalid(f"a redirect (status {status}) instead of an answer")
    if status == 501:
        return Unsupported(text)
    if status in _SLOW_DOWN:
        return Unreachable(f"status {status}: {text}")
    if status in (401, 403):
        return Refused(text, status=status, details=details)
    if status in (400, 500):
        known = _by_words(told, text, status, details)
        if known is not None:
            return known
    if status == 404:
        return NotFound(text)
    if status < 500:
        return Refused(text, status=status, details=details)
    return Unreachable(f"status {status}: {text}", may_have_happened=mutation and status not in _NOT_SENT)


def task_failure(exit_status: str) -> DriverError:
    """The error for a task that ended with this exit status: Locked, AlreadyExists, NotFound, Conflict or Unreachable
    where Proxmox' words say so, otherwise Refused with status 500. Part of its work may have been done.
    """
    text = " ".join(exit_status.split())
    return _by_words(exit_status, text, 500, {}) or Refused(text, status=500)


def _by_words(told: str, text: str, status: int, details: Mapping[str, str]) -> DriverError | None:
    if _LOCKED.search(told):
        return Locked(text)
    if _EXISTS.search(told):
        return AlreadyExists(text)
    if _ABSENT.search(told):
        return NotFound(text)
    if _CONFLICT.search(told):
        return Conflict(text)
    if _AWAY.search(told):
        return Unreachable(text)
    if _REFUSED.search(told):
        return Refused(text, status=status, details=details)
    return None
