"""The OpenAPI 3.1 document, made from the route table and the models, so that it says what they say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from zlh.api.answers import Problem
from zlh.api.bodies import Body, Query
from zlh.api.rights import SCHEMES, needs, security
from zlh.api.routing import Route
from zlh.api.transfers import transfers
from zlh.model.access import Permission, Scope

REFERENCE = "#/components/schemas/{model}"
# Served by the gateway itself, and so in no route table.
CONSOLE = {
    "get": {
        "summary": "Websocket: the console, lines out and commands in",
        "parameters": [
            {"name": "vmid", "in": "path", "required": True, "schema": {"type": "integer"}},
            {"name": "format", "in": "query", "schema": {"enum": ["text", "json"]}},
            {"name": "after", "in": "query", "schema": {"type": "integer"}},
            {"name": "access_token", "in": "query", "schema": {"type": "string"}},
        ],
        "security": security(Scope.CONSOLE),
        "description": "For every signed-in account. Somebody with whom the server was shared needs the permission "
        "`watch`, and `console` to type. An API key needs the scope `console`.",
        "x-role": "customer",
        "x-permission": Permission.WATCH.value,
        "responses": {"101": {"description": "The websocket is open"}},
    }
}


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    routes = tuple(routes)
    answers = {route.answer for route in routes if route.answer} | {Problem}
    bodies = {route.body for route in routes if route.body}
    inputs: list[tuple[type[BaseModel], Any]] = [(model, "validation") for model in sorted(bodies, key=_name)]
    outputs: list[tuple[type[BaseModel], Any]] = [(model, "serialization") for model in sorted(answers, key=_name)]
    names, schemas = models_json_schema(inputs + outputs, ref_template=REFERENCE)
    paths: dict[str, Any] = {"/api/servers/{vmid}/console/stream": CONSOLE, **transfers()}
    for route in routes:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, names)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ZLH control plane", "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas["$defs"], "securitySchemes": SCHEMES},
    }


def _operation(route: Route, names: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": route.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route.query), *_header_parameters(route)],
        "responses": {str(route.status): _good(route, names), "default": _content("A refusal", _problem(names))},
        **needs(route),
    }
    if route.body is not None:
        schema = names[route.body, "validation"]
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return described


def _good(route: Route, names: dict[Any, Any]) -> dict[str, Any]:
    if route.answer is None:
        return {"description": "Done", **({} if route.websocket else {"content": {route.media: {}}})}
    return _content("Done", names[route.answer, "serialization"])


def _content(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problem(names: dict[Any, Any]) -> Any:
    return names[Problem, "serialization"]


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    kinds = {"vmid": "integer", "account_id": "integer", "port": "integer"}
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": kinds.get(name, "string")}}
        for name in route.parameters
    ]


def _query_parameters(model: type[Query] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    properties = model.model_json_schema()["properties"]
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    if not route.idempotent:
        return []
    return [{"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}}]


def _name(model: type[Body] | type[BaseModel]) -> str:
    return model.__name__
