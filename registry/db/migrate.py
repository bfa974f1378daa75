"""Migrations at start: under a lock, with SQLite copied aside first, and never downwards.

Blocking on purpose: it runs before the event loop, and several processes may start at once.
"""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from registry.db.dialect import blocking_url
from registry.db.discreet import keep_rows_out_of_errors
from registry.db.floor import schema_floor
from registry.errors import ConflictError

_ADVISORY_LOCK = 0x5EA7_41A1
_LOCK_MILLISECONDS = 500
"""Less than PostgreSQL waits before it looks for a deadlock (1 s), which it might end at a push's cost."""
_LOCK_PAUSE_SECONDS = 2
_LOCK_TRIES = 30
_GIVE_WAY = frozenset({"55P03", "40P01"})
"""A lock that was not to be had in time, and a deadlock."""
COPYING = "copying"
"""How the version of a database begins while another is being copied into it."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What happened: the revisions before (``None``: empty) and after, and where the old file was kept.

    ``newer``: the schema is one that this code does not know and still runs on; it stays.
    """

    before: str | None
    after: str
    backup: Path | None
    newer: bool = False


def upgrade(url: str) -> Upgrade:
    """Bring the database to the newest schema this code knows.

    Raises:
        ConflictError: the database is newer than this code, or of another program, or somebody's transaction
            keeps a table for too long.
    """
    parsed = make_url(url)
    engine = _engine(parsed)
    config = alembic_config()
    script = ScriptDirectory.from_config(config)
    head = _head(script)
    with _file_lock(parsed), engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
            connection.commit()
        else:
            _log_ahead(connection)
        before, newer = _current(connection, script)
        if newer:
            return Upgrade(before=before, after=str(before), backup=None, newer=True)
        backup = None
        if before != head:
            backup = _copy_aside(parsed, before) if before else None
            config.attributes["connection"] = connection
            _migrate(connection, config)
    engine.dispose()
    return Upgrade(before=before, after=head, backup=backup)


def _log_ahead(connection: Connection) -> None:
    """Let SQLite write to a log beside its file (WAL), which the file then remembers.

    Here, where nobody else has the file: whoever reads waits for a change to that mode, and the event loop,
    which reads the epochs, would wait for a reader that waits for it.
    """
    driver = cast(sqlite3.Connection, connection.connection.driver_connection)
    driver.execute("PRAGMA journal_mode = WAL").fetchall()


def _migrate(connection: Connection, config: Config) -> None:
    """Change the schema in one transaction. What waits for a table has everybody else wait behind it, also
    those who only read: so it never waits long, gives up its place in the queue, and tries again."""
    for left in reversed(range(_LOCK_TRIES)):
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SET lock_timeout = {_LOCK_MILLISECONDS}"))
            connection.commit()
        try:
            command.upgrade(config, "head")
            connection.commit()
        except OperationalError as error:
            connection.rollback()
            if getattr(error.orig, "sqlstate", None) not in _GIVE_WAY:
                raise
            if not left:
                raise ConflictError(
                    "the schema cannot be upgraded while a long transaction holds a table (a backup?): "
                    "nothing was changed; start again when it has ended"
                ) from None
            time.sleep(_LOCK_PAUSE_SECONDS)
        else:
            return


def look(url: str) -> Upgrade:
    """Where the database stands and where this code would bring it; nothing is changed.

    Raises:
        ConflictError: as :func:`upgrade`.
    """
    parsed = make_url(url)
    script = ScriptDirectory.from_config(alembic_config())
    head = _head(script)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        return Upgrade(before=None, after=head, backup=None)
    with _engine(parsed).connect() as connection:
        before, newer = _current(connection, script)
        return Upgrade(before=before, after=str(before) if newer else head, backup=None, newer=newer)


def newest() -> str:
    """The newest schema this code knows."""
    return _head(ScriptDirectory.from_config(alembic_config()))


def _head(script: ScriptDirectory) -> str:
    head = script.get_current_head()
    assert head is not None
    return head


def _engine(url: URL) -> Engine:
    engine = create_engine(blocking_url(url), poolclass=NullPool, hide_parameters=True)
    keep_rows_out_of_errors(engine)
    if engine.dialect.name == "sqlite":
        # The driver begins no transaction before DDL: a migration that fails would leave half of it.
        event.listen(engine, "connect", _leave_transactions_to_us)
        event.listen(engine, "begin", _begin)
    return engine


def _leave_transactions_to_us(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def alembic_config() -> Config:
    """Alembic's configuration, for the scripts inside the wheel or beside a clone's packages."""
    here = Path(__file__).resolve().parent.parent
    inside = here / "_migrations"
    config = Config()
    config.set_main_option("script_location", str(inside if inside.is_dir() else here.parent / "migrations"))
    return config


def _current(connection: Connection, script: ScriptDirectory) -> tuple[str | None, bool]:
    """The schema, and whether it is newer than this code and fit for it."""
    current = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    if current is not None and current.startswith(COPYING):
        raise ConflictError(
            "a copy into this database was begun and is not finished: run the same 'seatrial db copy' again"
        )
    known = {revision.revision for revision in script.walk_revisions()}
    if current is not None and current not in known:
        if _runs_on_newer(connection):
            return current, True
        raise ConflictError(
            f"the database has schema {current}, which this version does not know: a newer one used it. "
            "Start that version, or restore the copy it made before its upgrade"
        )
    return current, False


def _runs_on_newer(connection: Connection) -> bool:
    """Whether all that a newer version did to the schema leaves this code what it needs."""
    if not inspect(connection).has_table(schema_floor.name):
        return False
    oldest = str(connection.execute(select(schema_floor.c.oldest)).scalar_one())
    connection.rollback()
    return oldest <= newest()


@contextmanager
def _file_lock(url: URL) -> Iterator[None]:
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        yield
        return
    with Path(f"{url.database}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _copy_aside(url: URL, revision: str) -> Path | None:
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    target = Path(f"{url.database}.before-upgrade-from-{revision}")
    with sqlite3.connect(url.database) as source, sqlite3.connect(target) as copy:
        source.backup(copy)
    source.close()
    copy.close()
    return target
