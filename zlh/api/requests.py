"""From bytes and query strings to validated values, with every problem listed."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError
from werkzeug.datastructures import MultiDict

from zlh.api.bodies import Body, Query
from zlh.model.errors import InvalidError

BodyType = TypeVar("BodyType", bound=Body)
QueryType = TypeVar("QueryType", bound=Query)


def parse_body(model: type[BodyType], raw: bytes) -> BodyType:
    """Raises InvalidError with `details` `[{"field", "problem"}]`. A body that is no JSON object is one problem."""
    try:
        return model.model_validate_json(raw or b"{}")
    except ValidationError as error:
        raise _refusal(error) from None


def parse_query(model: type[QueryType], args: MultiDict[str, str]) -> QueryType:
    try:
        return model.model_validate_strings(args.to_dict())
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> InvalidError:
    found = [
        (".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, "))
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return InvalidError.of(*found)
