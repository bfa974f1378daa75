"""Who has a database open: servers say so for as long as they run, and an offline command looks.

On SQLite every server holds a shared lock on a file beside the database, and whoever needs the database for
itself takes it whole; the kernel gives it back however a process ends. On PostgreSQL the connections of a
server carry its name, and the table of activity shows them.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from registry.db.dialect import blocking_url
from registry.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy import Connection

APPLICATION_NAME = "seatrial"
"""What a server's connections to PostgreSQL are called."""


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[None]:
    """Held by a server while it uses the database.

    Raises:
        ConflictError: an offline command has the database for itself.
    """
    with _lock(url, fcntl.LOCK_SH) as held:
        if not held:
            raise ConflictError("the database is being copied; start the server when that is done")
        yield


@contextmanager
def alone(url: str) -> Iterator[bool]:
    """For an offline command: no server begins to use a SQLite file while the block runs.

    False: one uses it already; then nothing is held.
    """
    with _lock(url, fcntl.LOCK_EX) as held:
        yield held


def is_served(url: str) -> bool:
    """Whether a server uses the database at this moment."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with alone(url) as free:
            return not free
    engine = create_engine(blocking_url(parsed), poolclass=NullPool)
    with engine.connect() as connection:
        return postgres_servers(connection) > 0


def postgres_servers(connection: Connection) -> int:
    """How many connections servers have to this PostgreSQL database."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = :name"
    )
    return int(connection.execute(query, {"name": APPLICATION_NAME}).scalar_one())


@contextmanager
def _lock(url: str, kind: int) -> Iterator[bool]:
    database = make_url(url)
    if database.get_backend_name() != "sqlite" or not database.database:
        yield True
        return
    # Not the database file itself: closing any descriptor of that drops SQLite's own locks on it.
    path = Path(f"{database.database}.in-use")
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.geteuid() == 0:
            # An offline command of root's must not leave a file that the server's user cannot open.
            with suppress(FileNotFoundError):
                owner = Path(database.database).stat()
                os.fchown(fd, owner.st_uid, owner.st_gid)
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
