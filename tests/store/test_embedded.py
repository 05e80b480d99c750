from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
import trio

from tests.store.samples import VAULT, add_account
from zlh.store import Database, DataDirectoryInUse, EmbeddedError, StoreUnavailable, accounts
from zlh.store.embedded import EmbeddedPostgres, open_embedded
from zlh.store.listener import Listening, listen
from zlh.store.migrate import migrate
from zlh.store.urls import libpq_url

HOLD = """
import sys, time
from pathlib import Path
from zlh.store.embedded import EmbeddedPostgres
print(EmbeddedPostgres(Path(sys.argv[1])).start(), flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A data directory that was started once: initdb is what costs time."""
    folder = Path(tempfile.mkdtemp(prefix="zlh-embedded-"))
    server = EmbeddedPostgres(folder)
    migrate(server.start())
    server.stop()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def server(cluster: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(cluster)
    yield server
    server.stop()


@pytest.fixture
def holder(cluster: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the data directory and does not stop its server when it is killed."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(cluster)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("postgresql://")
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    # Where the test did not adopt what it left, the next one would find a server that runs.
    left = EmbeddedPostgres(cluster)
    try:
        left.start()
    except DataDirectoryInUse:
        return
    left.stop()


def one(url: str) -> object:
    with psycopg.connect(libpq_url(url)) as connection:
        row = connection.execute("SELECT 1").fetchone()
    return row and row[0]


def postmaster(cluster: Path) -> int:
    return int((cluster / "postgres" / "postmaster.pid").read_text().split()[0])


def test_starts_stops_and_starts_again(server: EmbeddedPostgres) -> None:
    for _ in range(2):
        assert one(server.start()) == 1
        assert server.running()
        server.stop()
        assert not server.running()
    server.stop()


def test_only_its_user_gets_in(server: EmbeddedPostgres, cluster: Path) -> None:
    server.start()
    folder = cluster / "postgres"
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / ".s.PGSQL.5432").exists()
    with psycopg.connect(libpq_url(server.url("postgres"))) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)


def test_a_second_process_is_refused(server: EmbeddedPostgres, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(DataDirectoryInUse, match=f"process {holder.pid}"):
        server.start()


def test_a_second_start_in_this_process_is_refused(server: EmbeddedPostgres, cluster: Path) -> None:
    server.start()
    with pytest.raises(DataDirectoryInUse, match=f"process {os.getpid()}"):
        EmbeddedPostgres(cluster).start()
    with pytest.raises(EmbeddedError, match="already"):
        server.start()


def test_the_server_of_a_killed_process_is_adopted(
    server: EmbeddedPostgres, holder: subprocess.Popen[str], cluster: Path
) -> None:
    before = postmaster(cluster)
    holder.kill()
    holder.wait()
    assert one(server.start()) == 1
    assert postmaster(cluster) == before


def test_a_killed_server_is_started_again(server: EmbeddedPostgres, cluster: Path) -> None:
    url = server.start()
    with psycopg.connect(libpq_url(url)) as connection:
        connection.execute("CREATE TABLE survivors (n int)")
        connection.execute("INSERT INTO survivors VALUES (1)")
    os.kill(postmaster(cluster), signal.SIGKILL)
    server.stop()
    with psycopg.connect(libpq_url(server.start())) as connection:
        assert connection.execute("SELECT n FROM survivors").fetchone() == (1,)


def test_an_initdb_that_was_killed_leaves_no_trap() -> None:
    folder = Path(tempfile.mkdtemp(prefix="zlh-embedded-"))
    (folder / "postgres.new" / "base").mkdir(parents=True)
    (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(folder, options={"fsync": "off"})
    assert one(server.start()) == 1
    server.stop()
    shutil.rmtree(folder)


def test_a_data_directory_with_a_long_and_odd_name() -> None:
    """A unix socket's path may have 107 bytes: then the socket lives in a private folder elsewhere."""
    root = Path(tempfile.mkdtemp(prefix="zlh-embedded-"))
    server = EmbeddedPostgres(root / ("it's a long %n name" * 6), options={"fsync": "off"})
    url = server.start()
    sockets = Path(str(sa.make_url(url).query["host"]))
    assert one(url) == 1
    assert not sockets.is_relative_to(root)
    server.stop()
    assert not sockets.exists()
    shutil.rmtree(root)


def test_a_cluster_of_another_version_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedError, match="16"):
        EmbeddedPostgres(tmp_path).start()
    with pytest.raises(EmbeddedError, match="16"):
        EmbeddedPostgres(tmp_path).start()


def test_what_the_log_says_is_told(cluster: Path) -> None:
    broken = EmbeddedPostgres(cluster, options={"shared_buffers": "nonsense"})
    with pytest.raises(EmbeddedError, match="shared_buffers"):
        broken.start()


async def test_for_as_long_as_the_block_lasts(cluster: Path, server: EmbeddedPostgres) -> None:
    async with open_embedded(cluster) as url:
        assert await trio.to_thread.run_sync(one, url) == 1
        assert server.running()
    assert not server.running()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_the_pool_survives_a_restart(server: EmbeddedPostgres, mode: str) -> None:
    url = await trio.to_thread.run_sync(server.start)
    db = Database(url, vault=VAULT)
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(db.run, _doze)
    await db.run(lambda connection: add_account(connection, f"user-{mode}"))
    await trio.to_thread.run_sync(server.stop_server, mode)
    with pytest.raises(StoreUnavailable):
        await db.ready()
    await trio.to_thread.run_sync(server.start_server)
    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(db.ready)
    assert await db.run(accounts.by_identifier, f"user-{mode}") is not None
    await db.aclose()


async def test_a_query_under_way_ends_when_the_server_does(server: EmbeddedPostgres) -> None:
    db = Database(await trio.to_thread.run_sync(server.start))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                await trio.sleep(0.3)
                await trio.to_thread.run_sync(server.stop_server)

            nursery.start_soon(stop)
            with pytest.raises(StoreUnavailable):
                await db.run(lambda connection: connection.execute(sa.text("SELECT pg_sleep(9)")))
    await db.aclose()


async def test_the_listener_survives_a_restart(server: EmbeddedPostgres) -> None:
    url = await trio.to_thread.run_sync(server.start)
    with trio.fail_after(20):
        async with listen(url, "words") as notifications:
            assert await anext(notifications) == Listening(1)
            await trio.to_thread.run_sync(server.stop_server)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, server.start_server)
                assert await anext(notifications) == Listening(2)


def _doze(connection: sa.Connection) -> None:
    connection.execute(sa.text("SELECT pg_sleep(0.05)"))
