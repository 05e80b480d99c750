"""Updating the agents of many containers, in operators' hands."""

from __future__ import annotations

from zlh.api import rollouts
from zlh.api.routing import Route, Who
from zlh.model.access import Scope

ADDRESS = "/api/operators/rollouts"

ROLLOUTS = (
    Route(
        "GET",
        ADDRESS,
        Who.OPERATOR,
        rollouts.list_rollouts,
        "Rollouts, the newest first",
        rollouts.RolloutPage,
        query=rollouts.RolloutsQuery,
        scope=Scope.OPERATOR,
    ),
    Route(
        "POST",
        ADDRESS,
        Who.OPERATOR,
        rollouts.begin,
        "Update the agents of many containers, batch by batch",
        rollouts.BegunRollout,
        202,
        rollouts.BeginRollout,
        scope=Scope.OPERATOR,
        idempotent=True,
        audited="rollout.begin",
    ),
    Route(
        "GET",
        f"{ADDRESS}/<rollout_id>",
        Who.OPERATOR,
        rollouts.one_rollout,
        "One rollout with its containers",
        rollouts.RolloutAnswer,
        scope=Scope.OPERATOR,
    ),
    *(
        Route(
            "POST",
            f"{ADDRESS}/<rollout_id>/{verb}",
            Who.OPERATOR,
            handler,
            summary,
            rollouts.RolloutAnswer,
            scope=Scope.OPERATOR,
            audited=f"rollout.{verb}",
        )
        for verb, handler, summary in (
            ("pause", rollouts.pause, "Begin no more updates for now"),
            ("resume", rollouts.resume, "Go on with a paused rollout"),
            ("cancel", rollouts.cancel, "End a rollout once what it has begun has ended"),
        )
    ),
)
