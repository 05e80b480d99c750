"""Forwarded ports: which ports of a dev container can be reached from outside, and by whom. Every function runs in
the caller's transaction; changes nudge the channel "forwarded_ports" with the vmid."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from zlh.model.errors import AbsentError, ConflictError
from zlh.model.ports import ForwardedPort, Visibility
from zlh.store.notify import FORWARDED_PORTS, notify
from zlh.store.tables import containers, forwarded_ports

MOST_PORTS: Final = 20
"""Of one container."""


def add(connection: sa.Connection, vmid: int, port: int, visibility: Visibility, label: str, now: datetime) -> None:
    """Raises AbsentError where there is no container, ConflictError "already_forwarded" and "too_many_ports"."""
    # Those who open ports of one container do so one after the other: the limit is theirs together.
    row = sa.select(containers.c.vmid).where(containers.c.vmid == vmid).with_for_update(key_share=True)
    if connection.execute(row).first() is None:
        raise AbsentError("there is no such server")
    there = [known.port for known in of_container(connection, vmid)]
    if port in there:
        raise ConflictError(f"port {port} is forwarded already", code="already_forwarded")
    if len(there) >= MOST_PORTS:
        raise ConflictError(
            f"a container has {MOST_PORTS} forwarded ports at most",
            code="too_many_ports",
            details={"limit": MOST_PORTS},
        )
    values = {"vmid": vmid, "port": port, "visibility": visibility.value, "label": label, "created_at": now}
    connection.execute(sa.insert(forwarded_ports).values(values))
    notify(connection, FORWARDED_PORTS, str(vmid))


def change(connection: sa.Connection, vmid: int, port: int, visibility: Visibility | None, label: str | None) -> None:
    """What is None stays. Raises AbsentError where that port is not forwarded; so does `remove`."""
    values: dict[str, Any] = {"port": port}
    if visibility is not None:
        values["visibility"] = visibility.value
    if label is not None:
        values["label"] = label
    _one(connection.execute(sa.update(forwarded_ports).where(*_is(vmid, port)).values(values)))
    notify(connection, FORWARDED_PORTS, str(vmid))


def remove(connection: sa.Connection, vmid: int, port: int) -> None:
    _one(connection.execute(sa.delete(forwarded_ports).where(*_is(vmid, port))))
    notify(connection, FORWARDED_PORTS, str(vmid))


def of_container(connection: sa.Connection, vmid: int) -> list[ForwardedPort]:
    """By port."""
    query = sa.select(forwarded_ports).where(forwarded_ports.c.vmid == vmid).order_by(forwarded_ports.c.port)
    return [_port(row._mapping) for row in connection.execute(query)]


def all_ports(connection: sa.Connection) -> list[ForwardedPort]:
    return [_port(row._mapping) for row in connection.execute(sa.select(forwarded_ports))]


def _is(vmid: int, port: int) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return forwarded_ports.c.vmid == vmid, forwarded_ports.c.port == port


def _one(result: sa.CursorResult[Any]) -> None:
    if result.rowcount != 1:
        raise AbsentError("that port is not forwarded")


def _port(row: Mapping[Any, Any]) -> ForwardedPort:
    return ForwardedPort(**{**row, "visibility": Visibility(row["visibility"])})
