"""Single values: their types, their bounds, and how the environment's text becomes one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, get_args, get_origin

WORDS = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}


def key(
    default: Any,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    check: Callable[[Any], str | None] | None = None,
    secret: bool = False,
) -> Any:
    """A dataclass field with bounds. `check` gives a sentence for a bad value, None for a good one. A `secret` is
    never shown, and may be read from the file that the key `<name>_file` names."""
    metadata = {"minimum": minimum, "maximum": maximum, "choices": choices, "check": check, "secret": secret}
    return dataclasses.field(default=default, metadata=metadata, repr=not secret)


def fit(annotation: Any, value: Any) -> Any:
    """`value` as the annotated type; ValueError says in words what was expected. Nothing is guessed: "5" is text."""
    if get_origin(annotation) is tuple:
        return _tuple(get_args(annotation), value)
    if annotation is float and type(value) is int:
        return float(value)
    if type(value) is not annotation:
        raise ValueError(f"{_word(annotation)} expected, {_word(type(value))} found")
    return value


def parse(annotation: Any, text: str) -> Any:
    """The environment's `text` as the annotated type; lists are separated by commas."""
    if get_origin(annotation) is tuple:
        members = get_args(annotation)
        return fit(annotation, [parse(members[0], item.strip()) for item in text.split(",") if item.strip()])
    if annotation is bool:
        if text.strip().lower() not in WORDS:
            raise ValueError("true or false expected")
        return WORDS[text.strip().lower()]
    if annotation is str:
        return text
    try:
        return annotation(text)
    except ValueError:
        raise ValueError(f"{_word(annotation)} expected") from None


def bounds(field: dataclasses.Field[Any], value: Any) -> str | None:
    """What is wrong with a value of the right type; None when nothing is."""
    rule = field.metadata
    for item in value if isinstance(value, tuple) else (value,):
        if rule.get("minimum") is not None and item < rule["minimum"]:
            return f"{item} is less than {rule['minimum']}"
        if rule.get("maximum") is not None and item > rule["maximum"]:
            return f"{item} is more than {rule['maximum']}"
        if rule.get("choices") and item not in rule["choices"]:
            return f"{item!r} is none of {', '.join(rule['choices'])}"
    check = rule.get("check")
    try:
        return check(value) if check else None
    except ValueError as error:  # urlsplit and the like, of what they cannot even take apart
        return str(error)


def _tuple(members: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"a list expected, {_word(type(value))} found")
    if members[-1] is not Ellipsis and len(value) != len(members):
        raise ValueError(f"{len(members)} items expected, {len(value)} found")
    return tuple(fit(members[0], item) for item in value)


def _word(annotation: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", dict: "a table"}
    return words.get(annotation) or ("a list" if annotation in (list, tuple) else f"a {annotation.__name__}")
