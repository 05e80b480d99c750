"""What an agent's JSON means: strict about types, indifferent to fields that we do not know.

Every function takes the body of an answer and returns a value of the model, or raises Invalid with the reason in
words. Agents are not trusted: numbers are neither negative nor absurd, text is cut and freed of control characters
(PostgreSQL cannot store a NUL, and a log line must stay one line), lists are capped.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import orjson

from zlh.drivers.errors import Invalid
from zlh.model.console import Stretch
from zlh.model.observed import AgentState, Players, Readiness, Status, Update, Version

MAX_TEXT = 500
MAX_NAME = 64
MAX_NAMES = 500
MAX_LINE = 16 * 1024
MAX_LINES = 10_000
# Above any real count of anything, and what the database's integer holds: one that lies must not break the write for
# all the others.
MAX_NUMBER = 2**31 - 1
# Of lines, and of milliseconds since 1970 (until 2109).
MAX_COUNTED = 2**42 - 1

_CONTROL = dict.fromkeys([*range(32), *range(127, 160), 0x2028, 0x2029], " ")
_ENDS = {ord("\n"): " ", ord("\r"): None}
_STATES = {state.value: state for state in AgentState if state is not AgentState.UNKNOWN}


def parse_object(body: bytes | str) -> dict[str, Any]:
    """orjson refuses NaN, infinities, lone surrogates, bytes that are not UTF-8 and nesting below 1,024 levels."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Invalid("the answer is not JSON") from None
    if not isinstance(value, dict):
        raise Invalid(f"the answer is {_kind(value)}, not an object")
    return value


def parse_health(body: bytes) -> None:
    if parse_object(body).get("ok") is not True:
        raise Invalid("`ok` is not true")


def parse_readiness(body: bytes) -> Readiness:
    answer = parse_object(body)
    return Readiness(_flag(answer, "ready"), _optional_text(answer, "reason"))


def parse_status(body: bytes) -> Status:
    answer = parse_object(body)
    state = answer.get("state")
    known = _STATES.get(state) if isinstance(state, str) else None
    if known is None:
        _wrong("state", state, "a state that we know" if isinstance(state, str) else "a string")
    return Status(
        state=known,
        install_step=_optional_text(answer, "installStep"),
        crash_count=_optional_count(answer, "crashCount") or 0,
        error=_optional_text(answer, "error"),
        uptime_seconds=_optional_count(answer, "uptimeSeconds"),
        cpu_percent=_optional_number(answer, "cpuPercent"),
        memory_mb=_optional_count(answer, "memoryMb"),
        disk_mb=_optional_count(answer, "diskMb"),
    )


def parse_version(body: bytes) -> Version:
    answer = parse_object(body)
    return Version(_text(answer, "version"), _optional_text(answer, "commit"))


def parse_update(body: bytes) -> Update:
    answer = parse_object(body)
    state = _text(answer, "state")
    if state not in ("idle", "updating", "failed"):
        _wrong("state", state, "idle, updating or failed")
    return Update(_text(answer, "current"), _text(answer, "latest"), _flag(answer, "available"), state)


def parse_players(body: bytes) -> Players:
    answer = parse_object(body)
    names = answer.get("names")
    if names is None:
        names = []
    if not isinstance(names, list):
        _wrong("names", names, "a list")
    for name in names:
        if not isinstance(name, str):
            _wrong("names", name, "strings only", inside=True)
    return Players(
        online=_count(answer, "online"),
        max=_count(answer, "max"),
        names=tuple(clean(name, MAX_NAME) for name in names[:MAX_NAMES]),
    )


def parse_history(body: bytes) -> tuple[str, ...]:
    """Console lines, oldest first; their colour codes stay, as in the stream."""
    return tuple(line[:MAX_LINE] for line in _lines(parse_object(body))[-MAX_LINES:])


def parse_stretch(body: bytes | str) -> Stretch | None:
    """Console lines that the agent numbers, oldest first; None where it does not know how to."""
    answer = parse_object(body)
    if "epoch" not in answer:
        return None
    epoch, first = _count(answer, "epoch", MAX_COUNTED), _count(answer, "first", MAX_COUNTED)
    # Each is one line, whatever is in it: another count would mean other numbers.
    return Stretch(tuple([_one_line(line[:MAX_LINE]) for line in _lines(answer)[:MAX_LINES]]), epoch, first)


def _one_line(line: str) -> str:
    return line.translate(_ENDS) if "\n" in line or "\r" in line else line


def _lines(answer: dict[str, Any]) -> list[str]:
    lines = answer.get("lines")
    if not isinstance(lines, list):
        _wrong("lines", lines, "a list")
    for line in lines:
        if not isinstance(line, str):
            _wrong("lines", line, "strings only", inside=True)
    return lines


def parse_refusal(body: bytes) -> tuple[str, dict[str, str]]:
    """The sentence and the details of an error answer; whatever else came instead gives a sentence too."""
    try:
        answer = parse_object(body)
    except Invalid:
        return "", {}
    message = answer.get("error")
    details = answer.get("details")
    if details is None:
        words = {}
    elif isinstance(details, dict):
        words = {clean(name, MAX_NAME): _words(value) for name, value in list(details.items())[:50]}
    else:
        words = {"details": _words(details)}
    return clean(message, MAX_TEXT) if isinstance(message, str) else "", words


def clean(text: str, limit: int) -> str:
    """At most `limit` characters, on one line."""
    return text[:limit].translate(_CONTROL)


def _words(value: Any) -> str:
    return clean(value if isinstance(value, str) else orjson.dumps(value).decode(), MAX_TEXT)


def _text(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str):
        _wrong(name, value, "a string")
    return clean(value, MAX_TEXT)


def _optional_text(answer: dict[str, Any], name: str) -> str | None:
    return None if answer.get(name) is None else _text(answer, name)


def _flag(answer: dict[str, Any], name: str) -> bool:
    value = answer.get(name)
    if not isinstance(value, bool):
        _wrong(name, value, "true or false")
    return value


def _count(answer: dict[str, Any], name: str, most: int = MAX_NUMBER) -> int:
    value = answer.get(name)
    # A bool is an int to Python, not to JSON.
    if type(value) is not int:
        _wrong(name, value, "a whole number")
    if not 0 <= value <= most:
        _wrong(name, value, f"between 0 and {most}")
    return value


def _optional_count(answer: dict[str, Any], name: str) -> int | None:
    return None if answer.get(name) is None else _count(answer, name)


def _optional_number(answer: dict[str, Any], name: str) -> float | None:
    value = answer.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        _wrong(name, value, "a number")
    if not (math.isfinite(value) and 0 <= value <= MAX_NUMBER):
        _wrong(name, value, f"between 0 and {MAX_NUMBER}")
    return float(value)


def _wrong(name: str, value: Any, wanted: str, *, inside: bool = False) -> NoReturn:
    place = "holds" if inside else "is"
    shown = "missing" if value is None and not inside else _kind(value)
    raise Invalid(f"`{name}` {place} {shown}, not {wanted}")


def _kind(value: Any) -> str:
    """The value itself where it is short and plain, otherwise what it is."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)[:40]
        case str():
            return f'"{clean(value, 40)}"'
        case list():
            return "a list"
        case _:
            return "an object"
