"""Rollouts and their lines. Every function runs in the caller's transaction.

Whoever changes anything of a rollout holds its row until the transaction ends, so the count of failures and what it
permits are one. A line moves only from the state that it is expected in: whoever is late changes nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from zlh.model.errors import AbsentError, ConflictError
from zlh.model.rollouts import Ended, Item, ItemState, Rollout, RolloutState, counts_of
from zlh.store.tables import rollout_items, rollouts

ACTIVE = sa.text("active")
LONGEST_REASON = 500


def begin(
    connection: sa.Connection,
    vmids: Collection[int],
    *,
    version: str | None,
    batch: int,
    max_failures: int,
    now: datetime,
    actor_id: int | None = None,
) -> Rollout:
    """Raises ConflictError "rollout_active" (`details` = {"rollout"}) while there is another."""
    values = {
        "id": f"ro-{int(now.timestamp() * 1000):011x}-{secrets.token_hex(8)}",
        "state": RolloutState.RUNNING.value,
        "active": True,
        "version": version,
        "batch": batch,
        "max_failures": max_failures,
        "actor_id": actor_id,
        "created_at": now,
        "updated_at": now,
    }
    added = connection.execute(
        insert(rollouts)
        .values(values)
        .on_conflict_do_nothing(index_elements=["active"], index_where=ACTIVE)
        .returning(rollouts.c.id)
    ).first()
    if added is None:
        raise _active_already(connection)
    lines = [{"rollout_id": added.id, "vmid": vmid, "state": ItemState.PENDING.value} for vmid in sorted(set(vmids))]
    if lines:
        connection.execute(sa.insert(rollout_items), lines)
    return _known(connection, added.id)


def get(connection: sa.Connection, rollout_id: str) -> Rollout | None:
    found = connection.execute(sa.select(rollouts).where(rollouts.c.id == rollout_id)).first()
    return _rollout(found._mapping, items=_items(connection, rollout_id)) if found is not None else None


def active(connection: sa.Connection) -> Rollout | None:
    """The one that is under way or paused; a restarted program carries it on."""
    found = connection.execute(sa.select(rollouts.c.id).where(rollouts.c.active)).first()
    return get(connection, found.id) if found is not None else None


def page(connection: sa.Connection, *, before: str | None = None, limit: int = 50) -> list[Rollout]:
    """The newest first, with counts and without lines; `before` is the id of the last one of the page before."""
    query = sa.select(rollouts).order_by(rollouts.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(rollouts.c.id < before)
    rows = [row._mapping for row in connection.execute(query)]
    counts = _counts(connection, [row["id"] for row in rows])
    return [_rollout(row, counts=counts.get(row["id"], {})) for row in rows]


def begin_item(
    connection: sa.Connection,
    rollout_id: str,
    vmid: int,
    *,
    current: str,
    target: str,
    was_ready: bool,
    now: datetime,
) -> Item | None:
    """The line that stands before an agent is told to update, or None where nothing may be begun any more."""
    if not _lock(connection, rollout_id).may_begin:
        return None
    values = {"current": current, "target": target, "was_ready": was_ready, "started_at": now}
    return _move(connection, rollout_id, vmid, ItemState.PENDING, ItemState.UPDATING, now, values)


def told(connection: sa.Connection, rollout_id: str, vmid: int, now: datetime) -> Item | None:
    """The agent has taken the update."""
    return _move(connection, rollout_id, vmid, ItemState.UPDATING, ItemState.UPDATING, now, {"told_at": now})


def end_item(
    connection: sa.Connection, rollout_id: str, vmid: int, ended: Ended, *, was: ItemState, now: datetime
) -> Item | None:
    """None where the line was not in the state that it `was` in."""
    _lock(connection, rollout_id)
    values: dict[str, Any] = {"ended_at": now, "reason": ended.reason and ended.reason[:LONGEST_REASON]}
    if ended.current is not None and was is ItemState.PENDING:
        values["current"] = ended.current
    elif ended.current is not None and ended.state is ItemState.SUCCEEDED:
        # It may have found a newer one than it had announced.
        values["target"] = ended.current
    return _move(connection, rollout_id, vmid, was, ended.state, now, values)


def pause(connection: sa.Connection, rollout_id: str, now: datetime) -> Rollout:
    """Nothing new is begun. Raises AbsentError, ConflictError "rollout_ended"; so do the next two."""
    _active(connection, rollout_id)
    return _set(connection, rollout_id, now, state=RolloutState.PAUSED.value)


def resume(connection: sa.Connection, rollout_id: str, now: datetime) -> Rollout:
    _active(connection, rollout_id)
    return _set(connection, rollout_id, now, state=RolloutState.RUNNING.value)


def ask_to_cancel(connection: sa.Connection, rollout_id: str, now: datetime) -> Rollout:
    """It is cancelled once what was begun has ended."""
    _active(connection, rollout_id)
    asked = sa.func.coalesce(rollouts.c.cancel_asked_at, now)
    return _set(connection, rollout_id, now, cancel_asked_at=asked)


def finish(
    connection: sa.Connection, rollout_id: str, state: RolloutState, now: datetime, *, error: str | None = None
) -> Rollout:
    """Raises as `pause`."""
    _active(connection, rollout_id)
    return _set(connection, rollout_id, now, state=state.value, active=False, finished_at=now, error=error)


def purge(connection: sa.Connection, before: datetime) -> int:
    """Forgets those that ended earlier, lines and all; returns how many."""
    old = ~rollouts.c.active & (rollouts.c.finished_at < before)
    return connection.execute(sa.delete(rollouts).where(old)).rowcount


def _active(connection: sa.Connection, rollout_id: str) -> None:
    if _lock(connection, rollout_id).state.final:
        raise ConflictError("the rollout has ended", code="rollout_ended")


def _lock(connection: sa.Connection, rollout_id: str) -> Rollout:
    found = connection.execute(sa.select(rollouts).where(rollouts.c.id == rollout_id).with_for_update()).first()
    if found is None:
        raise AbsentError("there is no such rollout")
    return _rollout(found._mapping, counts=_counts(connection, [rollout_id]).get(rollout_id, {}))


def _set(connection: sa.Connection, rollout_id: str, now: datetime, **values: Any) -> Rollout:
    connection.execute(sa.update(rollouts).where(rollouts.c.id == rollout_id).values(updated_at=now, **values))
    return _known(connection, rollout_id)


def _move(
    connection: sa.Connection,
    rollout_id: str,
    vmid: int,
    was: ItemState,
    becomes: ItemState,
    now: datetime,
    values: Mapping[str, Any],
) -> Item | None:
    statement = (
        sa.update(rollout_items)
        .where(
            rollout_items.c.rollout_id == rollout_id,
            rollout_items.c.vmid == vmid,
            rollout_items.c.state == was.value,
        )
        .values(state=becomes.value, **values)
        .returning(rollout_items)
    )
    moved = connection.execute(statement).first()
    if moved is None:
        return None
    connection.execute(sa.update(rollouts).where(rollouts.c.id == rollout_id).values(updated_at=now))
    return _item(moved._mapping)


def _active_already(connection: sa.Connection) -> ConflictError:
    other = active(connection)
    details = {"rollout": other.id} if other is not None else None
    return ConflictError("another rollout is under way", code="rollout_active", details=details)


def _known(connection: sa.Connection, rollout_id: str) -> Rollout:
    rollout = get(connection, rollout_id)
    assert rollout is not None
    return rollout


def _counts(connection: sa.Connection, ids: Sequence[str]) -> dict[str, dict[ItemState, int]]:
    query = (
        sa.select(rollout_items.c.rollout_id, rollout_items.c.state, sa.func.count().label("number"))
        .where(rollout_items.c.rollout_id == sa.any_(sa.literal(list(ids), sa.ARRAY(sa.Text))))
        .group_by(rollout_items.c.rollout_id, rollout_items.c.state)
    )
    found: dict[str, dict[ItemState, int]] = {}
    for row in connection.execute(query):
        found.setdefault(row.rollout_id, {})[ItemState(row.state)] = row.number
    return found


def _items(connection: sa.Connection, rollout_id: str) -> tuple[Item, ...]:
    query = sa.select(rollout_items).where(rollout_items.c.rollout_id == rollout_id).order_by(rollout_items.c.vmid)
    return tuple(_item(row._mapping) for row in connection.execute(query))


def _rollout(
    row: Mapping[Any, Any], *, items: tuple[Item, ...] = (), counts: Mapping[ItemState, int] | None = None
) -> Rollout:
    fields = {name: value for name, value in row.items() if name != "active"}
    known = counts_of(items) if counts is None else counts
    return Rollout(**{**fields, "state": RolloutState(row["state"]), "items": items, "counts": known})


def _item(row: Mapping[Any, Any]) -> Item:
    fields = {name: value for name, value in row.items() if name != "rollout_id"}
    return Item(**{**fields, "state": ItemState(row["state"])})
