"""The audit record: written, completed once, read in pages, and forgotten by the retention only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from tests.store.samples import NOW, add_account
from zlh.model.accounts import Role
from zlh.model.audit import FACTS, Act, Ending, Facts, Outcome
from zlh.store import audit
from zlh.store.audit import Person, Wanted
from zlh.store.tables import audit as table

DONE = Ending(outcome=Outcome.DONE, status=200)


def act(action: str = "game.start", **fields: Any) -> Act:
    return Act(**{"at": NOW, "action": action, "credential": "session:s", **fields})


def everything(connection: sa.Connection, **wanted: Any) -> list[audit.Entry]:
    return audit.page(connection, Wanted(**wanted))


def test_an_act_is_unknown_until_it_is_completed(connection: sa.Connection) -> None:
    ada = add_account(connection)
    begun = audit.begin(connection, act(actor_id=ada.id, address="::1", agent="curl", details={"force": True}))
    [before] = everything(connection)
    assert (before.outcome, before.status, before.subject) == (None, None, None)
    assert before.actor == Person(ada.id, "ada", Role.CUSTOMER)
    ending = Ending(outcome=Outcome.REFUSED, status=409, subject_id=ada.id, vmid=5001, details={"role": "admin"})
    assert audit.complete(connection, begun, ending)
    [after] = everything(connection)
    assert (after.outcome, after.status, after.vmid) == (Outcome.REFUSED, 409, 5001)
    assert after.subject == after.actor == before.actor
    assert after.details == {"force": True, "role": "admin"}
    assert (after.address, after.agent, after.at) == ("::1", "curl", NOW)


def test_only_the_first_end_counts_and_what_was_said_stays(connection: sa.Connection) -> None:
    begun = audit.begin(connection, act(actor_id=1, subject_id=2, vmid=5001))
    assert audit.complete(
        connection, begun, Ending(outcome=Outcome.DONE, status=200, actor_id=7, subject_id=8, vmid=9)
    )
    assert not audit.complete(connection, begun, Ending(outcome=Outcome.FAILED, status=500))
    [entry] = everything(connection)
    assert entry.actor is not None
    assert entry.subject is not None
    assert (entry.actor.id, entry.subject.id, entry.vmid, entry.outcome) == (1, 2, 5001, Outcome.DONE)


def test_an_act_and_its_end_in_one(connection: sa.Connection) -> None:
    audit.record(connection, act(details={"role": "admin"}), Ending(outcome=Outcome.DONE, subject_id=4))
    [entry] = everything(connection)
    assert (entry.outcome, entry.status, entry.details) == (Outcome.DONE, None, {"role": "admin"})
    assert entry.subject == Person(4, "", Role.CUSTOMER)


CHANGES: dict[str, dict[str, Any]] = {
    "the action": {"action": "other", "outcome": "done"},
    "the time": {"at": NOW + timedelta(1), "outcome": "done"},
    "who it was": {"actor_id": 99, "outcome": "done"},
    "nobody": {"actor_id": None, "outcome": "done"},
    "whose it was": {"subject_id": 99, "outcome": "done"},
    "the container": {"vmid": 99, "outcome": "done"},
    "the credential": {"credential": "cli", "outcome": "done"},
    "the address": {"address": "1.2.3.4", "outcome": "done"},
    "the agent": {"agent": "other", "outcome": "done"},
    "the request": {"request_id": "other", "outcome": "done"},
    "what was noted": {"details": {"role": "customer"}, "outcome": "done"},
    "nothing of the end": {"details": {"role": "admin", "force": True}},
    "an outcome that is none": {"outcome": "fine"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_the_database_refuses_to_change_what_was_written(connection: sa.Connection, change: dict[str, Any]) -> None:
    begun = audit.begin(connection, act(actor_id=1, subject_id=2, vmid=5001, details={"role": "admin"}))
    with pytest.raises(sa.exc.DBAPIError, match=r"append-only|ck_audit_outcome"):
        connection.execute(sa.update(table).where(table.c.id == begun).values(**change))


@pytest.mark.parametrize(
    "change",
    [
        sa.update(table).values(outcome="failed"),
        sa.update(table).values(outcome=None),
        sa.update(table).values(status=500),
        sa.update(table).values(id=sa.text("DEFAULT")),
        sa.delete(table),
        sa.text("TRUNCATE audit"),
        sa.text("SET LOCAL zlh.retention = 'on'; TRUNCATE audit"),
        sa.text("SET LOCAL zlh.retention = 'off'; DELETE FROM audit"),
        sa.text("SET LOCAL zlh.retention = 'on'; UPDATE audit SET outcome = 'failed'"),
    ],
    ids=str,
)
def test_the_database_refuses_to_change_what_is_complete(connection: sa.Connection, change: sa.Executable) -> None:
    audit.record(connection, act(), DONE)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        connection.execute(change)


def test_the_retention_takes_the_oldest_in_batches_and_nothing_young(connection: sa.Connection) -> None:
    for age in range(10):
        audit.record(connection, act(f"age.{age}", at=NOW - timedelta(days=age)), DONE)
    assert audit.forget(connection, NOW - timedelta(days=4, hours=12), at_most=3) == 3
    assert [entry.action for entry in everything(connection)] == [f"age.{age}" for age in range(6, -1, -1)]
    assert audit.forget(connection, NOW - timedelta(days=4, hours=12), at_most=3) == 2
    assert audit.forget(connection, NOW - timedelta(days=4, hours=12), at_most=3) == 0
    # What allowed the deletion has ended with it.
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        connection.execute(sa.delete(table))


ROWS = st.lists(
    st.tuples(
        st.sampled_from([None, 1, 2]),
        st.sampled_from([None, 1, 2]),
        st.sampled_from([None, 5001, 5002]),
        st.sampled_from(["totp", "totp.enable", "totp_", "totpxenable", "sign_in"]),
        st.sampled_from([None, *Outcome]),
        st.integers(0, 3),
    ),
    max_size=12,
)
WANTED = st.builds(
    Wanted,
    seen_by=st.sampled_from([None, 1, 2]),
    account_id=st.sampled_from([None, 1, 2]),
    vmid=st.sampled_from([None, 5001]),
    action=st.sampled_from([None, "totp", "totp_", "sign_in"]),
    outcome=st.sampled_from([None, *Outcome]),
    unknown=st.booleans(),
    since=st.sampled_from([None, NOW + timedelta(1)]),
    until=st.sampled_from([None, NOW + timedelta(2)]),
    limit=st.integers(1, 4),
)


def fits(entry: audit.Entry, wanted: Wanted) -> bool:
    people = {person.id for person in (entry.actor, entry.subject) if person is not None}
    outcome_fits = entry.outcome is None if wanted.unknown else wanted.outcome in (None, entry.outcome)
    return (
        wanted.seen_by in (None, *people)
        and wanted.account_id in (None, *people)
        and wanted.vmid in (None, entry.vmid)
        and (wanted.action in (None, entry.action) or entry.action.startswith(f"{wanted.action}."))
        and outcome_fits
        and (wanted.since is None or entry.at >= wanted.since)
        and (wanted.until is None or entry.at < wanted.until)
    )


def test_pages_are_what_a_plain_filter_finds(engine: sa.Engine) -> None:
    @given(ROWS, WANTED)
    def compare(rows: list[tuple[Any, ...]], wanted: Wanted) -> None:
        with engine.connect() as connection:
            for actor_id, subject_id, vmid, action, outcome, days in rows:
                one = act(action, actor_id=actor_id, subject_id=subject_id, vmid=vmid, at=NOW + timedelta(days=days))
                if outcome is None:
                    audit.begin(connection, one)
                else:
                    audit.record(connection, one, Ending(outcome=outcome))
            expected = [entry.id for entry in everything(connection, limit=100) if fits(entry, wanted)]
            assert paged(lambda before: audit.page(connection, _after(wanted, before))) == expected

    compare()


def _after(wanted: Wanted, before: int | None) -> Wanted:
    fields = {name: getattr(wanted, name) for name in Wanted.__dataclass_fields__}
    return Wanted(**fields | {"before": before})


def paged(read: Callable[[int | None], list[audit.Entry]]) -> list[int]:
    """The ids of all pages."""
    found: list[int] = []
    before: int | None = None
    while page := read(before):
        found += [entry.id for entry in page]
        before = found[-1]
    return found


def test_clients_words_are_kept_as_far_as_they_can_be(connection: sa.Connection) -> None:
    audit.record(connection, act(address="1" * 500, agent="a\0\ud800" + "b" * 500), DONE)
    [entry] = everything(connection)
    assert entry.address == "1" * 64
    assert entry.agent == ("a?" + "b" * 500)[:199]


def test_facts_have_names_that_are_known() -> None:
    facts = Facts()
    for name in FACTS:
        facts[name] = "x\0" * 1000
    assert all(len(str(fact)) <= 500 and "\0" not in str(fact) for fact in facts.values())
    for name in ("password", "token", "identifier", "body", "secret", "code", "url"):
        with pytest.raises(ValueError, match="not among the facts"):
            facts[name] = "x"
    facts["scopes"] = ["a\0" * 300] * 100
    assert facts["scopes"] == ["a" * 250] * 32


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "done"), (204, "done"), (304, "done"), (400, "refused"), (499, "refused"), (503, "failed")],
)
def test_outcomes(status: int, outcome: str) -> None:
    assert Outcome.of_status(status).value == outcome
