"""Where containers are published, in operators' hands."""

from __future__ import annotations

from zlh.api import edge_documents, edge_targets
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
    Route("GET", "/edge/traefik", Who.PUBLIC, edge_documents.traefik, "Routes, for Traefik with its own token", None),
    Route(
        "GET",
        "/sd/exporters",
        Who.PUBLIC,
        edge_documents.prometheus,
        "Targets, for Prometheus with its own token",
        None,
    ),
)
