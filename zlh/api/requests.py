"""From bytes and query strings to validated values, with every problem listed."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import unquote_to_bytes

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


def parse_query(model: type[QueryType], args: MultiDict[str, str], raw: bytes) -> QueryType:
    """`args` are what `raw` says, with what is no UTF-8 replaced: that would be another file's name. Raises as
    `parse_body`."""
    try:
        unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise InvalidError.of(("", "the query is not UTF-8 in percent escapes")) from None
    known = {field.alias or name for name, field in model.model_fields.items()}
    repeated = [name for name, values in args.lists() if len(values) > 1 and name in known]
    if repeated:
        raise InvalidError.of(*((name, "is there more than once") for name in repeated))
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
