"""What commands of the machine leave in the audit record."""

from __future__ import annotations

from pathlib import Path

import psycopg

from tests.commands.installation import Installation
from zlh.commands.recording import command_act


def test_an_act_says_which_command_and_whose_it_was() -> None:
    act = command_act("zlh user", "account.role", subject_id=7, facts={"role": "admin", "reason": ""})
    assert (act.credential, act.actor_id, act.subject_id, act.action) == ("cli", None, 7, "account.role")
    assert act.agent.startswith("zlh user, by ")
    assert act.details == {"role": "admin"}


def test_new_signing_keys_are_recorded_with_their_names(tmp_path: Path, postgres_url: str) -> None:
    here = Installation(tmp_path, postgres_url)
    named = []
    for words in (("keys", "rotate"), ("keys", "rotate", "--now")):
        said = here.here(*words)
        assert said.status == 0, said.err
        named.append(said.out.split()[0])
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute("SELECT action, credential, outcome, details FROM audit ORDER BY id").fetchall()
    assert rows == [
        ("keys.rotate", "cli", "done", {"kid": named[0]}),
        ("keys.withdraw", "cli", "done", {"kid": named[1]}),
    ]
