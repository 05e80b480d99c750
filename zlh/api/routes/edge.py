"""Where containers are published, in operators' hands."""

from __future__ import annotations

from zlh.api import edge_targets
from zlh.api.routing import Route, Who
from zlh.model.access import Scope

EDGE = (
    Route(
        "GET",
        "/api/operators/edge",
        Who.OPERATOR,
        edge_targets.targets,
        "Where containers are published, and whether that is as it should be",
        edge_targets.EdgeTargets,
        scope=Scope.OPERATOR,
    ),
    Route(
        "POST",
        "/api/operators/edge/reconcile",
        Who.OPERATOR,
        edge_targets.reconcile,
        "Compare targets with what is wanted, and repair them",
        edge_targets.EdgeDifference,
        body=edge_targets.Reconcile,
        scope=Scope.OPERATOR,
        audited="edge.reconcile",
    ),
)
