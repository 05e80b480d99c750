"""What containers do by themselves at certain times. What a schedule does, its changer must be allowed to do, too:
the handlers see to that."""

from __future__ import annotations

from zlh.api import answers, schedules
from zlh.api.routing import VMID, Route, Who
from zlh.model.access import Scope

ALL = f"/api/servers/{VMID}/schedules"
ONE = f"{ALL}/<schedule_id>"
SIGNED_IN = Who.SIGNED_IN

SCHEDULES = (
    Route(
        "GET",
        ALL,
        SIGNED_IN,
        schedules.list_schedules,
        "A container's schedules, with their next and last runs",
        schedules.Schedules,
        scope=Scope.SERVERS_READ,
    ),
    Route(
        "POST",
        ALL,
        SIGNED_IN,
        schedules.create,
        "Have something done at certain times; needs what doing it by hand needs",
        schedules.Scheduled,
        201,
        schedules.CreateSchedule,
        scope=Scope.SCHEDULES,
        idempotent=True,
        audited="schedule.create",
    ),
    Route(
        "GET",
        ONE,
        SIGNED_IN,
        schedules.one_schedule,
        "One schedule",
        schedules.Scheduled,
        scope=Scope.SERVERS_READ,
    ),
    Route(
        "PATCH",
        ONE,
        SIGNED_IN,
        schedules.change,
        "Change a schedule; from now on it runs in the changer's name",
        schedules.Scheduled,
        body=schedules.ChangeSchedule,
        scope=Scope.SCHEDULES,
        audited="schedule.change",
    ),
    Route(
        "DELETE",
        ONE,
        SIGNED_IN,
        schedules.delete,
        "Delete a schedule; the backups that it made stay",
        answers.Ok,
        scope=Scope.SCHEDULES,
        audited="schedule.delete",
    ),
    Route(
        "POST",
        f"{ONE}/run",
        SIGNED_IN,
        schedules.run_now,
        "Run a schedule now",
        schedules.Begun,
        202,
        scope=Scope.SCHEDULES,
        idempotent=True,
        audited="schedule.run",
    ),
    Route(
        "GET",
        f"{ONE}/runs",
        SIGNED_IN,
        schedules.list_runs,
        "The last runs of a schedule, the newest first",
        schedules.Runs,
        scope=Scope.SERVERS_READ,
    ),
)
