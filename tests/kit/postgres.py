"""A real PostgreSQL for the length of a test run: Debian's or Ubuntu's binaries, a temporary folder, a unix
socket and no TCP port."""

from __future__ import annotations

import asyncio
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.db.engine import Database

_START_SECONDS = 60
_OPTIONS = (
    "listen_addresses=",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "max_connections=200",
    "shared_buffers=64MB",
    "max_wal_size=64MB",
)
_DISK, _MEMORY = Path("/tmp"), Path("/dev/shm")
_MEMORY_BYTES = 2 << 30
"""What must be free there: several servers have some 200 MB each."""
_COPIES_FILES = 150000
"""The first version of PostgreSQL that must be told to copy a template's files, not each of their pages."""


@dataclass(slots=True)
class PostgresServer:
    """A running server, whose socket lies in ``folder``."""

    folder: Path
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _administrator: psycopg.Connection | None = field(default=None, init=False, repr=False)

    def url(self, name: str) -> str:
        """Address of the database ``name``."""
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def create(self, template: str = "template0") -> str:
        """Make a database with a new name, as a copy of ``template``; returns the name."""
        name = f"seatrial_{next(self._numbers)}"
        connection = self._administering()
        how = " STRATEGY FILE_COPY" if connection.info.server_version >= _COPIES_FILES else ""
        _execute(connection, f'CREATE DATABASE "{name}" TEMPLATE "{template}"{how}')
        return name

    def drop(self, name: str) -> None:
        """Remove the database, and whoever is still connected to it."""
        _execute(self._administering(), f'DROP DATABASE "{name}" WITH (FORCE)')

    def close(self) -> None:
        """Leave the server: nothing more is made or removed."""
        if self._administrator is not None:
            self._administrator.close()

    def _administering(self) -> psycopg.Connection:
        # Kept: each new one would take a quarter of what it takes to make a database.
        if self._administrator is None:
            self._administrator = psycopg.connect(self.url("postgres"), autocommit=True)
        return self._administrator


def find_binaries() -> Path | None:
    """The folder with ``initdb`` and ``postgres``, the newest of several."""
    found = sorted(
        (path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()),
        key=lambda path: float(path.parent.name),
    )
    if found:
        return found[-1]
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def quickest_place() -> Path:
    """Where a server's folder is best for many small databases: their thousand files each take ten times as
    long to make and to remove on a disk as in memory."""
    if _MEMORY.is_mount():
        there = os.statvfs(_MEMORY)
        if there.f_bavail * there.f_frsize > _MEMORY_BYTES:
            return _MEMORY
    return _DISK


@contextmanager
def running_postgres(binaries: Path, place: Path = _DISK) -> Iterator[PostgresServer]:
    """Start a server, as the user ``postgres`` when we are root, and stop it at the end. Its folder is in
    ``place``.

    Its default order of text is not bytewise, on purpose: a column that forgets its collation shows.
    """
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="seatrial-pg-", dir=place))  # a socket's path is short
    folder.chmod(0o711)  # a registry of a test may run as another user
    try:
        if user:
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        data = folder / "data"
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "--encoding=UTF8",
             "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"],
            check=True, capture_output=True, user=user, group=user, cwd=folder,
        )  # fmt: skip
        options = [
            part for option in (*_OPTIONS, f"unix_socket_directories={folder}") for part in ("-c", option)
        ]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                # The kernel stops it when the test run dies, however that happens.
                ["setpriv", "--pdeathsig", "INT", binaries / "postgres", "-D", data, *options],
                stdout=log, stderr=log, user=user, group=user, cwd=folder, start_new_session=True,
            )  # fmt: skip
        try:
            running = PostgresServer(folder)
            _wait(running, server)
            yield running
            running.close()
        finally:
            server.terminate()  # "smart" waits for clients; every database was dropped by force
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.send_signal(2)
                server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _execute(connection: psycopg.Connection, statement: str) -> None:
    """It waits five seconds for those who leave the database, and some need longer."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            connection.execute(statement)
        except psycopg.errors.ObjectInUse:
            if time.monotonic() > deadline:
                raise
        else:
            return


def _wait(running: PostgresServer, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(running.url("postgres")).close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                log = (running.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"PostgreSQL did not start:\n{log}") from None
            time.sleep(0.05)


async def until_waiting(database: Database, pid: int) -> None:
    """Wait until the transaction of this server process waits for a lock."""
    waiting = text("SELECT cardinality(pg_blocking_pids(:pid))")
    async with asyncio.timeout(60):
        while True:
            async with database.read_once() as connection:
                if (await connection.execute(waiting, {"pid": pid})).scalar_one():
                    return
            await asyncio.sleep(0.01)


async def until_somebody_waits(database: Database, holder: AsyncConnection, *, count: int = 1) -> None:
    """Wait until so many transactions wait for a lock that ``holder`` has."""
    pid = (await holder.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE :pid = ANY(pg_blocking_pids(pid))")
    async with asyncio.timeout(60):
        while True:
            async with database.read() as connection:
                if (await connection.execute(waiting, {"pid": pid})).scalar_one() >= count:
                    return
            await asyncio.sleep(0.01)
