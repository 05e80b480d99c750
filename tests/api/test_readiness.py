"""What is wrong is told in a sentence that names nobody; the log has the rest, once."""

from __future__ import annotations

import logging
import os
import signal

import pytest
import sqlalchemy as sa

from tests.stopwatch import Stopwatch
from zlh.api.readiness import Readiness
from zlh.store import Database, Vault


async def test_strangers_read_a_sentence_and_the_log_has_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    database = Database("postgresql://hidden-user:s3cr3t@127.0.0.1:1/zlh", vault=Vault([Vault.new_key()]))
    readiness = Readiness(database, lambda: None)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert await readiness() == {"database": "does not answer", "proxmox": None}
    await database.aclose()
    said = [record.getMessage() for record in caplog.records if "does not answer" in record.getMessage()]
    assert len(said) == 1
    assert "127.0.0.1" in said[0]
    assert "s3cr3t" not in caplog.text


async def test_it_is_ready_again(postgres_url: str) -> None:
    database = Database(postgres_url, vault=Vault([Vault.new_key()]))
    assert await Readiness(database, lambda: "does not answer")() == {"database": None, "proxmox": "does not answer"}
    await database.aclose()


async def test_a_database_that_hangs_is_told_in_time(postgres_url: str) -> None:
    database = Database(postgres_url, 1, vault=Vault([Vault.new_key()]))
    which = sa.text("SELECT pg_backend_pid()")
    backend = await database.run(lambda connection: connection.execute(which).scalar_one())
    os.kill(backend, signal.SIGSTOP)
    try:
        watch = Stopwatch()
        assert await Readiness(database, lambda: None)() == {"database": "does not answer", "proxmox": None}
        assert watch.seconds < 4.0
    finally:
        os.kill(backend, signal.SIGCONT)
    await database.aclose()
