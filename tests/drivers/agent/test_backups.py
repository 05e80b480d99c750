"""What agents tell of backups: understood as the contract says, or refused; never a crash."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.agents import GAME, client_of, start_agent, until
from zlh.drivers.agent import parse_backups
from zlh.drivers.errors import Conflict, Invalid, Refused
from zlh.model.backups import Backup, Backups, BackupState, Restore, RestoreState

ENTRY = {"id": "b1", "name": "one", "createdAt": "2026-03-01T12:00:00Z", "sizeBytes": 7, "state": "ready"}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def told(*entries: Any, **more: Any) -> bytes:
    return json.dumps({"backups": list(entries), **more}).encode()


def test_what_the_contract_says() -> None:
    failed = {**ENTRY, "state": "failed", "error": "no space\nleft", "locked": True, "sizeBytes": None, "odd": []}
    restore = {"backup": "b1", "key": "op-1", "state": "restoring"}
    assert parse_backups(told(ENTRY, failed, restore=restore)) == Backups(
        (
            Backup("b1", "one", NOON, 7, BackupState.READY),
            Backup("b1", "one", NOON, 0, BackupState.FAILED, locked=True, error="no space left"),
        ),
        Restore("b1", "op-1", RestoreState.RESTORING),
        tells_restores=True,
    )


def test_an_old_agent_does_not_tell_of_restores() -> None:
    assert parse_backups(told()) == Backups(())
    assert parse_backups(told(restore=None)) == Backups((), None, tells_restores=True)


@pytest.mark.parametrize(
    "time", ["2026-03-01T12:00:00", "2026-03-01T13:00:00+01:00", "2026-03-01T12:00:00.000Z"], ids=str
)
def test_times_are_utc(time: str) -> None:
    assert parse_backups(told({**ENTRY, "createdAt": time})).backups[0].created_at == NOON


@pytest.mark.parametrize(
    "change",
    [
        {"id": 7},
        {"id": None},
        {"name": None},
        {"createdAt": "yesterday"},
        {"createdAt": 1772366400},
        {"createdAt": "0001-01-01T00:00:00+23:00"},
        {"createdAt": "9999-12-31T23:59:59-23:00"},
        {"sizeBytes": -1},
        {"sizeBytes": True},
        {"sizeBytes": 2**61},
        {"state": "odd"},
        {"state": []},
        {"locked": "no"},
        {"error": 7},
    ],
    ids=str,
)
def test_what_is_no_backup(change: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        parse_backups(told({**ENTRY, **change}))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*ENTRY, "restore", "key"]), inner),
    max_leaves=20,
)


@given(st.fixed_dictionaries({"backups": st.lists(values, max_size=3)}, optional={"restore": values}) | values)
def test_whatever_else_comes_is_refused(value: Any) -> None:
    try:
        body = json.dumps(value).encode()
    except UnicodeEncodeError:
        return
    try:
        found = parse_backups(body)
    except Invalid:
        return
    assert isinstance(found, Backups)


async def test_the_client_asks_the_agent(nursery, tmp_path):
    agent = await start_agent(nursery, tmp_path, config=GAME)
    with client_of(agent) as client:
        assert await client.backups() == Backups((), None, tells_restores=True)
        made = json.loads((await client.request("POST", "/backups", {"name": "one"})).body)["id"]

        async def ready() -> bool:
            return (await client.backups()).backups[0].state is BackupState.READY

        await until(ready)
        with pytest.raises(Conflict):
            await client.restore(made, "k")
        await client.kill()
        await until(lambda: agent.state == "idle")
        with pytest.raises(Refused) as absent:
            await client.restore("none?x=1#", "k")
        assert absent.value.status == 404
        await client.restore(made, "k")
        restore = (await client.backups()).restore
        assert restore is not None
        assert (restore.backup, restore.key) == (made, "k")
