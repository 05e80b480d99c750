"""/api/servers/<vmid>/schedules: what a container does by itself at certain times.

Everybody who sees the container sees its schedules. Who changes one, or has it run, needs the permission at the
container, and with an API key the scope, that doing the same by hand needs.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from quart import Response

from zlh.accounts import require_scope
from zlh.api.answers import Answer
from zlh.api.bodies import Body, Name, printable
from zlh.api.call import Call, json_response
from zlh.model.access import Permission, Scope
from zlh.model.backups import Retention
from zlh.model.errors import AbsentError
from zlh.model.schedules import EVERYTHING, LONGEST_CRON, Action, Outcome, Run, Schedule, Wish, check_cron, check_zone
from zlh.model.servers import rfc3339_of

SCHEDULE_ID = re.compile(r"[0-9a-f]{1,64}")
MOST_KEPT = 1000


def _that(check: Callable[[str], None]) -> AfterValidator:
    def checked(text: str) -> str:
        check(text)
        return text

    return AfterValidator(checked)


Title = Annotated[Name, StringConstraints(min_length=1)]
Cron = Annotated[str, StringConstraints(strip_whitespace=True, max_length=LONGEST_CRON), _that(check_cron)]
Zone = Annotated[str, StringConstraints(max_length=64), _that(check_zone)]
Command = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000), AfterValidator(printable)]
Count = Annotated[int, Field(ge=0, le=MOST_KEPT)]


class Keep(Body):
    """How many backups are kept: the last ones, and the newest of each of so many days, weeks and months that have
    one. All zero keeps everything."""

    last: Count
    daily: Count
    weekly: Count
    monthly: Count


class CreateSchedule(Body):
    """`cron` has five fields, and at least five minutes between two runs; `timeZone` is an IANA name. `command` is
    needed for that action and ignored for others, as `retention` is for all but backups; without it all are kept."""

    name: Title
    action: Action
    cron: Cron
    time_zone: Zone = "UTC"
    command: Command = ""
    enabled: bool = True
    retention: Keep | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.action is Action.COMMAND and not self.command:
            raise ValueError("which command is to be given?")
        return self


class ChangeSchedule(Body):
    """What is not given stays as it is, and so does the action."""

    name: Title | None = None
    cron: Cron | None = None
    time_zone: Zone | None = None
    command: Annotated[Command, StringConstraints(min_length=1)] | None = None
    enabled: bool | None = None
    retention: Keep | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError("nothing is to be changed")
        return self


class OneRetention(Answer):
    last: int
    daily: int
    weekly: int
    monthly: int


class OneRun(Answer):
    """`outcome` is null while it waits or is under way. `deletedBackups` are the ids of those that it replaced."""

    id: str
    due_at: str
    by_hand: bool
    attempt: int
    started_at: str | None
    ended_at: str | None
    outcome: Outcome | None
    error: str | None
    backup_id: str | None
    deleted_backups: list[str]


class OneSchedule(Answer):
    """`command` is null for other actions and for who may not read the console, `retention` for all but backups."""

    id: str
    name: str
    action: Action
    cron: str
    time_zone: str
    command: str | None
    enabled: bool
    retention: OneRetention | None
    created_at: str
    updated_at: str
    next_run_at: str | None
    last_run: OneRun | None


class Schedules(Answer):
    schedules: list[OneSchedule]


class Scheduled(Answer):
    schedule: OneSchedule


class Begun(Answer):
    run: OneRun


class Runs(Answer):
    runs: list[OneRun]


async def list_schedules(call: Call, vmid: int) -> Response:
    found = await call.services.schedules.of_container(vmid)
    return json_response({"schedules": [schedule_json(call, schedule) for schedule in found]})


async def create(call: Call, vmid: int) -> Response:
    body: CreateSchedule = call.body
    call.audit.details["action"] = body.action.value
    _require(call, vmid, body.action)
    wish = Wish(
        name=body.name,
        action=body.action,
        cron=body.cron,
        zone=body.time_zone,
        command=body.command if body.action is Action.COMMAND else "",
        enabled=body.enabled,
        retention=_retention(body.retention) if body.retention and body.action is Action.BACKUP else EVERYTHING,
    )
    owner = await call.services.accounts.account(call.services.fleet.container(vmid).owner_id)
    made = await call.services.schedules.create(owner, vmid, wish, author_id=call.principal.account_id)
    call.audit.details["schedule"] = made.id
    return json_response({"schedule": schedule_json(call, made)}, 201)


async def one_schedule(call: Call, vmid: int, schedule_id: str) -> Response:
    found = await call.services.schedules.get(vmid, _checked(schedule_id))
    return json_response({"schedule": schedule_json(call, found)})


async def change(call: Call, vmid: int, schedule_id: str) -> Response:
    body: ChangeSchedule = call.body
    action = (await _own(call, vmid, schedule_id)).wish.action
    given: dict[str, Any] = {
        "name": body.name,
        "cron": body.cron,
        "zone": body.time_zone,
        "command": body.command if action is Action.COMMAND else None,
        "enabled": body.enabled,
        "retention": _retention(body.retention) if body.retention and action is Action.BACKUP else None,
    }
    changes = {name: value for name, value in given.items() if value is not None}

    def edit(wish: Wish) -> Wish:
        return dataclasses.replace(wish, **changes)

    made = await call.services.schedules.change(vmid, schedule_id, edit, author_id=call.principal.account_id)
    return json_response({"schedule": schedule_json(call, made)})


async def delete(call: Call, vmid: int, schedule_id: str) -> Response:
    await _own(call, vmid, schedule_id)
    await call.services.schedules.delete(vmid, schedule_id)
    return json_response({"ok": True})


async def run_now(call: Call, vmid: int, schedule_id: str) -> Response:
    await _own(call, vmid, schedule_id)
    run = await call.services.schedules.run_now(vmid, schedule_id)
    return json_response({"run": run_json(run)}, 202)


async def list_runs(call: Call, vmid: int, schedule_id: str) -> Response:
    runs = await call.services.schedules.runs(vmid, _checked(schedule_id))
    return json_response({"runs": [run_json(run) for run in runs]})


def schedule_json(call: Call, schedule: Schedule) -> dict[str, Any]:
    wish = schedule.wish
    return {
        "id": schedule.id,
        "name": wish.name,
        "action": wish.action.value,
        "cron": wish.cron,
        "timeZone": wish.zone,
        "command": wish.command if wish.action is Action.COMMAND and _may_read(call, schedule.vmid) else None,
        "enabled": wish.enabled,
        "retention": dataclasses.asdict(wish.retention) if wish.action is Action.BACKUP else None,
        "createdAt": rfc3339_of(schedule.created_at),
        "updatedAt": rfc3339_of(schedule.updated_at),
        "nextRunAt": rfc3339_of(schedule.next_at),
        "lastRun": None if schedule.last_run is None else run_json(schedule.last_run),
    }


def run_json(run: Run) -> dict[str, Any]:
    return {
        "id": str(run.id),
        "dueAt": rfc3339_of(run.due_at),
        "byHand": run.by_hand,
        "attempt": run.attempt,
        "startedAt": rfc3339_of(run.started_at),
        "endedAt": rfc3339_of(run.ended_at),
        "outcome": run.outcome and run.outcome.value,
        "error": run.error,
        "backupId": run.backup_id,
        "deletedBackups": list(run.deleted),
    }


async def _own(call: Call, vmid: int, schedule_id: str) -> Schedule:
    """The schedule, with which the caller may do what it does. Raises AbsentError, ForbiddenError."""
    call.audit.details["schedule"] = _checked(schedule_id)
    found = await call.services.schedules.get(vmid, schedule_id)
    call.audit.details["action"] = found.wish.action.value
    _require(call, vmid, found.wish.action)
    return found


def _require(call: Call, vmid: int, action: Action) -> None:
    call.services.access.check(call.principal, vmid, action.permission)
    require_scope(call.principal, action.scope)


def _may_read(call: Call, vmid: int) -> bool:
    """What is typed into a console is not for everybody."""
    principal = call.principal
    scoped = principal.scopes is None or Scope.CONSOLE in principal.scopes
    return scoped and Permission.WATCH in call.services.access.permissions(principal, vmid)


def _checked(schedule_id: str) -> str:
    """Raises AbsentError for what is no schedule's id: PostgreSQL's text has no room for some characters."""
    if not SCHEDULE_ID.fullmatch(schedule_id):
        raise AbsentError("there is no such schedule")
    return schedule_id


def _retention(keep: Keep) -> Retention:
    return Retention(keep.last, keep.daily, keep.weekly, keep.monthly)
