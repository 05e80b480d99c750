"""The OpenAPI 3.1 document, made from the route table and the models, so that it says what they say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from zlh.api.answers import Problem
from zlh.api.bodies import Body, Query
from zlh.api.console_stream import CONSOLE
from zlh.api.rights import SCHEMES, needs
from zlh.api.routing import Route
from zlh.api.transfers import transfers

REFERENCE = "#/components/schemas/{model}"


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
        described["requestBody"] = {
            "required": any(field.is_required() for field in route.body.model_fields.values()),
            "content": {"application/json": {"schema": schema}},
        }
    return described


def _good(route: Route, names: dict[Any, Any]) -> dict[str, Any]:
    if route.answer is None:
        bodiless = route.websocket or route.status == 204
        return {"description": "Done", **({} if bodiless else {"content": {route.media: {}}})}
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
    schema = model.model_json_schema()
    needed = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in needed, "schema": described}
        for name, described in schema["properties"].items()
    ]


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    if not route.idempotent:
        return []
    return [{"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}}]


def _name(model: type[Body] | type[BaseModel]) -> str:
    return model.__name__
