"""/api/operators/rollouts: updating the agents of many containers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
import sqlalchemy as sa
from pydantic import Field, StringConstraints
from quart import Response

from zlh.api.answers import Answer
from zlh.api.bodies import Body, Label, Query
from zlh.api.call import Call, json_response, raw_json
from zlh.containers.rollouts import Wish
from zlh.model.containers import ContainerType
from zlh.model.errors import AbsentError
from zlh.model.rollouts import Item, ItemState, Rollout, RolloutState
from zlh.model.servers import rfc3339_of

Vmid = Annotated[int, Field(ge=1, le=999_999_999)]
WELL_FORMED = re.compile(r"[A-Za-z0-9_-]{1,64}")


class BeginRollout(Body):
    """`version` is the one to come to, by default whatever each agent calls the latest; `vmids` and `ctype` narrow
    down which containers. `batch` at a time; more than `maxFailures` failures end it. `dryRun` only tells what would
    be done, as far as that is known without asking."""

    version: Annotated[Label, StringConstraints(min_length=1)] | None = None
    vmids: Annotated[list[Vmid], Field(min_length=1, max_length=10_000)] | None = None
    ctype: ContainerType | None = None
    batch: Annotated[int, Field(ge=1, le=100)] = 5
    max_failures: Annotated[int, Field(ge=0, le=10_000)] = 1
    dry_run: bool = False


class RolloutsQuery(Query):
    """`before` is the id of the last rollout of the page before."""

    before: Annotated[str | None, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class RolloutContainer(Answer):
    """`from` and `to` are versions of the agent. `error` says why it failed, `reason` why it was skipped."""

    vmid: int
    state: ItemState
    from_: str | None = Field(alias="from")
    to: str | None
    error: str | None
    reason: str | None
    started_at: str | None
    ended_at: str | None


class RolloutSummary(Answer):
    """`cancelling`: it ends as soon as what was begun has ended. `counts`: how many containers are in which state."""

    id: str
    state: RolloutState
    cancelling: bool
    version: str | None
    batch: int
    max_failures: int
    counts: dict[ItemState, int]
    error: str | None
    actor_id: int | None
    created_at: str
    updated_at: str
    finished_at: str | None
    href: str


class OneRollout(RolloutSummary):
    containers: list[RolloutContainer]


class RolloutAnswer(Answer):
    rollout: OneRollout


class BegunRollout(Answer):
    """A dry run begins none: `rollout` is null then, and `planned` says what is expected of each container."""

    dry_run: bool
    rollout: OneRollout | None
    planned: list[RolloutContainer]


class RolloutPage(Answer):
    rollouts: list[RolloutSummary]
    next: str | None


def summary_json(rollout: Rollout) -> dict[str, Any]:
    return {
        "id": rollout.id,
        "state": rollout.state.value,
        "cancelling": rollout.cancel_asked_at is not None and not rollout.state.final,
        "version": rollout.version,
        "batch": rollout.batch,
        "maxFailures": rollout.max_failures,
        "counts": {state.value: rollout.counts.get(state, 0) for state in ItemState},
        "error": rollout.error,
        "actorId": rollout.actor_id,
        "createdAt": rfc3339_of(rollout.created_at),
        "updatedAt": rfc3339_of(rollout.updated_at),
        "finishedAt": rfc3339_of(rollout.finished_at),
        "href": f"/api/operators/rollouts/{rollout.id}",
    }


def rollout_json(rollout: Rollout) -> dict[str, Any]:
    return {**summary_json(rollout), "containers": [_item_json(item) for item in rollout.items]}


def _item_json(item: Item) -> dict[str, Any]:
    failed = item.state is ItemState.FAILED
    return {
        "vmid": item.vmid,
        "state": item.state.value,
        "from": item.current,
        "to": item.target,
        "error": item.reason if failed else None,
        "reason": None if failed else item.reason,
        "startedAt": rfc3339_of(item.started_at),
        "endedAt": rfc3339_of(item.ended_at),
    }


async def list_rollouts(call: Call) -> Response:
    """The newest first; `next` is the `before` of the following page."""
    query: RolloutsQuery = call.query
    found = await call.services.rollouts.page(before=query.before, limit=query.limit)
    following = found[-1].id if len(found) == query.limit else None
    return json_response({"rollouts": [summary_json(rollout) for rollout in found], "next": following})


async def one_rollout(call: Call, rollout_id: str) -> Response:
    rollout = await call.services.rollouts.get(_well_formed(rollout_id))
    return json_response({"rollout": rollout_json(rollout)})


async def begin(call: Call) -> Response:
    """202 with the rollout; 200 for a dry run."""
    body: BeginRollout = call.body
    call.audit.details["dry_run"] = body.dry_run
    if body.version is not None:
        call.audit.details["version"] = body.version
    wish = Wish(body.version, body.vmids, body.ctype, body.batch, body.max_failures)
    if body.dry_run:
        planned = call.services.rollouts.plan(wish)
        return json_response({"dryRun": True, "rollout": None, "planned": [_item_json(item) for item in planned]})

    def keep(connection: sa.Connection, rollout: Rollout) -> None:
        call.keep(connection, 202, _begun(rollout))

    rollout = await call.services.rollouts.begin(wish, actor_id=call.principal.actor_id, also=keep)
    call.audit.details["rollout"] = rollout.id
    return raw_json(_begun(rollout), 202)


def _begun(rollout: Rollout) -> bytes:
    return orjson.dumps({"dryRun": False, "rollout": rollout_json(rollout), "planned": []})


async def pause(call: Call, rollout_id: str) -> Response:
    return await _change(call, rollout_id, call.services.rollouts.pause)


async def resume(call: Call, rollout_id: str) -> Response:
    return await _change(call, rollout_id, call.services.rollouts.resume)


async def cancel(call: Call, rollout_id: str) -> Response:
    return await _change(call, rollout_id, call.services.rollouts.cancel)


async def _change(call: Call, rollout_id: str, change: Callable[[str], Awaitable[Rollout]]) -> Response:
    call.audit.details["rollout"] = _well_formed(rollout_id)
    changed = await change(rollout_id)
    return json_response({"rollout": rollout_json(changed)})


def _well_formed(rollout_id: str) -> str:
    """Raises AbsentError for what cannot be an id, and could not even be asked for."""
    if not WELL_FORMED.fullmatch(rollout_id):
        raise AbsentError("there is no such rollout")
    return rollout_id
