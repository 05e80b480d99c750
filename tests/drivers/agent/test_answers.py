"""What agents say is typed or refused with a reason; nothing else ever comes of it."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zlh.drivers.agent import answers
from zlh.drivers.errors import Invalid
from zlh.model.console import Stretch
from zlh.model.observed import AgentState, Players, Readiness, Status, Update, Version

PARSERS = [
    answers.parse_health,
    answers.parse_readiness,
    answers.parse_status,
    answers.parse_version,
    answers.parse_update,
    answers.parse_players,
    answers.parse_history,
    answers.parse_stretch,
]
TYPES = (type(None), Readiness, Status, Version, Update, Players, Stretch, tuple)
NUMBERS = ["crashCount", "uptimeSeconds", "cpuPercent", "memoryMb", "diskMb", "online", "max"]
TEXTS = ["state", "reason", "installStep", "error", "version", "commit", "current", "latest"]
FIELDS = st.sampled_from([*NUMBERS, *TEXTS, "ok", "ready", "available", "names", "lines", "epoch", "first"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text()
    | st.sampled_from(["running", "idle", "failed", "unknown"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=10,
)


def value_or_reason(parse, body):
    """The parsed value, or why there is none; anything else fails the test."""
    try:
        return parse(body)
    except Invalid as error:
        return error


@given(parse=st.sampled_from(PARSERS), body=st.binary())
def test_any_bytes_are_a_value_or_invalid(parse, body):
    assert isinstance(value_or_reason(parse, body), (*TYPES, Invalid))


@given(parse=st.sampled_from(PARSERS), answer=st.dictionaries(FIELDS, VALUES))
def test_any_json_is_a_value_or_one_short_line(parse, answer):
    outcome = value_or_reason(parse, json.dumps(answer).encode())
    if isinstance(outcome, Invalid):
        assert "\n" not in str(outcome)
        assert 0 < len(str(outcome)) < 300
    else:
        assert isinstance(outcome, TYPES)


@given(answer=st.dictionaries(FIELDS, VALUES), state=st.sampled_from([state.value for state in AgentState][:-1]))
def test_a_status_that_passes_has_only_sane_values(answer, state):
    try:
        status = answers.parse_status(json.dumps(answer | {"state": state}).encode())
    except Invalid:
        return
    for number in (status.crash_count, status.uptime_seconds, status.memory_mb, status.disk_mb, status.cpu_percent):
        assert number is None or 0 <= number < 2**31, "what the database's integer holds"
    for text in (status.install_step, status.error):
        assert text is None or (len(text) <= answers.MAX_TEXT and "\0" not in text and "\n" not in text)


def test_a_whole_status():
    body = {"state": "installing", "installStep": "java", "crashCount": 2, "cpuPercent": 3, "memoryMb": 5, "new": [1]}
    assert answers.parse_status(orjson.dumps(body)) == Status(
        state=AgentState.INSTALLING, install_step="java", crash_count=2, cpu_percent=3.0, memory_mb=5
    )


@pytest.mark.parametrize(
    ("parse", "body", "reason"),
    [
        (answers.parse_status, b'{"state": 7}', "`state` is 7, not a string"),
        (answers.parse_status, b"{}", "`state` is missing, not a string"),
        (answers.parse_status, b'{"state": "unknown"}', '`state` is "unknown", not a state that we know'),
        (answers.parse_status, b'{"state": "idle", "crashCount": true}', "`crashCount` is true, not a whole number"),
        (answers.parse_status, b'{"state": "idle", "crashCount": -1}', "`crashCount` is -1, not between 0 and"),
        (answers.parse_status, b'{"state": "idle", "uptimeSeconds": 1.5}', "`uptimeSeconds` is 1.5, not a whole"),
        (answers.parse_status, b'{"state": "idle", "memoryMb": 99999999999999999999}', "`memoryMb` is 1e+20, not a"),
        (answers.parse_status, b'{"state": "idle", "cpuPercent": 1e300}', "`cpuPercent` is 1e+300, not between"),
        (answers.parse_status, b'{"state": "idle", "cpuPercent": NaN}', "not JSON"),
        (answers.parse_status, b'{"state": "idle", "cpuPercent": 1e999}', "not JSON"),
        (answers.parse_status, b"[" * 5000 + b"]" * 5000, "not JSON"),
        (answers.parse_status, b"[]", "the answer is a list, not an object"),
        (answers.parse_health, b'{"ok": 1}', "`ok` is not true"),
        (answers.parse_readiness, b'{"ready": "yes"}', '`ready` is "yes", not true or false'),
        (answers.parse_players, b'{"online": 1, "max": 2, "names": {}}', "`names` is an object, not a list"),
        (answers.parse_players, b'{"online": 1, "max": 2, "names": [null]}', "`names` holds null, not strings only"),
        (answers.parse_update, b'{"current":"1","latest":"2","available":true,"state":"odd"}', '`state` is "odd"'),
    ],
)
def test_a_wrong_answer_is_refused_in_words(parse, body, reason):
    with pytest.raises(Invalid) as caught:
        parse(body)
    assert reason in str(caught.value)


def test_long_and_dirty_text_is_cut_and_cleaned():
    body = orjson.dumps({"state": "error", "error": "a\0b\nc" + "x" * 5000})
    error = answers.parse_status(body).error
    assert error is not None
    assert error.startswith("a b cx")
    assert len(error) == answers.MAX_TEXT


def test_lists_are_capped():
    names = [f"player{number}" for number in range(5000)]
    players = answers.parse_players(orjson.dumps({"online": 5000, "max": 5000, "names": names}))
    assert len(players.names) == answers.MAX_NAMES
    lines = answers.parse_history(orjson.dumps({"lines": [str(number) for number in range(20_000)]}))
    assert lines[-1] == "19999"
    assert len(lines) == answers.MAX_LINES


def test_a_refusal_keeps_the_agents_words():
    assert answers.parse_refusal(b'{"error": "no", "details": {"field": {"a": 1}}}') == ("no", {"field": '{"a":1}'})
    assert answers.parse_refusal(b'{"error": "no", "details": [1]}') == ("no", {"details": "[1]"})
    assert answers.parse_refusal(b"<html>") == ("", {})


@pytest.mark.parametrize("count", [2**31, 10**11, 2**63])
def test_a_count_that_the_database_cannot_hold_is_refused(count):
    with pytest.raises(Invalid, match="crashCount"):
        answers.parse_status(json.dumps({"state": "running", "crashCount": count}).encode())
