"""A whole database copied into an empty one, of either kind, offline.

The copy goes table by table in the order of foreign keys, in batches of rows by primary key, each its own
transaction on the target. It keeps no place of its own: what is in the target already is compared and not
written again, so that it can be killed at any point and run again, also after the source went on. Meanwhile
the target's schema version says ``copying``, which no server starts on; the last transaction, after every
table was read back from both sides and compared, puts the true version there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, create_engine, event, func, inspect, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from registry.db import migrate, tablecopy
from registry.db.accounts import accounts
from registry.db.dialect import blocking_url
from registry.db.discreet import keep_rows_out_of_errors
from registry.db.events import epochs
from registry.db.floor import schema_floor
from registry.db.inuse import alone, postgres_servers
from registry.db.schema import metadata
from registry.db.usage import recount, repository_usage, usage_changes
from registry.errors import ConflictError

if TYPE_CHECKING:
    from sqlalchemy import Table

Progress = Callable[[int], None]
"""Told how many more rows were copied, and then again how many were compared."""

_LOCK_KEY = 0x5EA7_C0B1
_WAIT_SECONDS = 20


@dataclass(frozen=True, slots=True)
class TableCopied:
    """One table: its rows, how many of them this run wrote, how many it took away because the source had lost
    them, and the checksum that both sides have (``None``: not compared)."""

    name: str
    rows: int
    written: int
    deleted: int
    checksum: str | None


@dataclass(frozen=True, slots=True)
class Copied:
    """What a run did; ``finished`` tells that a server may start on the target."""

    schema: str
    tables: tuple[TableCopied, ...]
    finished: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would do: the rows of each table, whether the target holds a ``begun`` copy, and whether the
    source is ``served``."""

    schema: str
    rows: dict[str, int]
    begun: bool
    served: bool


def preview(source_url: str, target_url: str) -> Preview:
    """What :func:`copy` would find; nothing is changed.

    Raises:
        ConflictError: as :func:`copy`, but for a server that runs.
    """
    _require_two(source_url, target_url)
    with _reading(source_url, ahead=True) as (source, served):
        identity = _identity(source)
        begun = False
        if _exists(target_url):
            with _writing(target_url) as target:
                begun = _is_begun(target, identity)
        rows = {table.name: tablecopy.count(source, table) for table in _tables()}
        return Preview(schema=migrate.newest(), rows=rows, begun=begun, served=served)


def copy(source_url: str, target_url: str, *, ahead: bool, progress: Progress) -> Copied:
    """Make the target what the source is. ``ahead``: a server may go on writing to the source; the target is
    then left unfinished, for a second run that has little to do.

    Raises:
        ConflictError: the source has not this version's schema or was never used; a server uses it; the
            target is the source, holds something else, or is being copied into; a row cannot be kept there;
            the two sides differ at the end.
    """
    _require_two(source_url, target_url)
    with _reading(source_url, ahead=ahead) as (source, served):
        if served and not ahead:
            raise ConflictError(
                "a server uses the source: stop it first, so that nothing it writes is left behind; or copy "
                "most of it while it runs, with --ahead, and the rest afterwards"
            )
        identity = _identity(source)
        with _writing(target_url) as target:
            begun = _is_begun(target, identity)
            if not begun:
                migrate.upgrade(target_url)
                _set_version(target, _marker(identity))
                target.commit()
            return _copy(source, target, _tables(), begun=begun, finish=not ahead, progress=progress)


def snapshot(source_url: str, target_url: str, *, without: Collection[Table], progress: Progress) -> Copied:
    """Copy the source as it stands at one moment, while servers go on writing to it, to a new file of SQLite;
    the tables ``without`` stay empty there.

    Raises:
        ConflictError: as :func:`copy`, but for a server that runs.
    """
    _require_two(source_url, target_url)
    # Not even a server that starts meanwhile is kept from it.
    with _connected(source_url, begin="BEGIN") as source:
        if source.dialect.name == "postgresql":
            source.execution_options(isolation_level="REPEATABLE READ")
        identity = _identity(source)
        migrate.upgrade(target_url)
        with _writing(target_url) as target:
            _set_version(target, _marker(identity))
            target.commit()
            tables = [table for table in _tables() if table not in without]
            return _copy(source, target, tables, begun=False, finish=True, progress=progress)


def _copy(
    source: Connection,
    target: Connection,
    tables: Sequence[Table],
    *,
    begun: bool,
    finish: bool,
    progress: Progress,
) -> Copied:
    # Before anything is written: a name that was given up may have been taken again.
    deleted = {
        table.name: tablecopy.delete_lost(source, target, table) if begun else 0 for table in reversed(tables)
    }
    written = {
        table.name: tablecopy.write(source, target, table, compare=begun, done=progress) for table in tables
    }
    sums = _verify(source, target, tables, progress) if finish else {}
    if finish:
        _finish(source, target)
    return Copied(
        schema=migrate.newest(),
        tables=tuple(
            TableCopied(
                name=table.name,
                rows=tablecopy.count(source, table),
                written=written[table.name],
                deleted=deleted[table.name],
                checksum=sums.get(table.name),
            )
            for table in tables
        ),
        finished=finish,
    )


def _verify(
    source: Connection, target: Connection, tables: Sequence[Table], progress: Progress
) -> dict[str, str]:
    """Read both sides whole, in the same order and form; returns the checksum of each table."""
    sums, wrong = {}, []
    for table in tables:
        here = tablecopy.checksum(source, table, progress)
        there = tablecopy.checksum(target, table, lambda _: None)
        sums[table.name] = here[1]
        if here != there:
            wrong.append(f"{table.name} ({here[0]} rows in the source, {there[0]} in the target)")
    target.rollback()
    if wrong:
        raise ConflictError(
            f"the copy differs from its source in {', '.join(wrong)}: something else wrote to the target. "
            "It stays unfinished; run the copy again"
        )
    return sums


def _finish(source: Connection, target: Connection) -> None:
    """Number on where the source stands, make every cache look anew, and let servers start."""
    ours = source.execute(select(epochs.c.content, epochs.c.access, epochs.c.gate)).one()
    # Triggers have counted what came, but not what was changed in its place.
    recount(target)
    target.execute(update(epochs).values(content=ours[0] + 1, access=ours[1] + 1, gate=ours[2] + 1))
    if target.dialect.name == "postgresql":
        for table in _tables():
            column = table.autoincrement_column
            if column is not None:
                highest = target.execute(select(func.max(column))).scalar_one()
                sequence = func.pg_get_serial_sequence(table.name, column.name)
                target.execute(select(func.setval(sequence, highest or 1, highest is not None)))
    _set_version(target, migrate.newest())
    target.commit()


def _require_two(source_url: str, target_url: str) -> None:
    if make_url(source_url) == make_url(target_url):
        raise ConflictError("source and target are the same database")
    if not _exists(source_url):
        raise ConflictError("the source does not exist: there is no such file")
    found = migrate.look(source_url)
    if found.before != migrate.newest():
        raise ConflictError(
            f"the source has schema {found.before or 'none'} and this version copies {migrate.newest()}: "
            "bring it there first, by starting the server or with 'seatrial db upgrade'"
        )


@contextmanager
def _reading(url: str, *, ahead: bool) -> Iterator[tuple[Connection, bool]]:
    """A transaction that sees the source at one moment, and whether a server uses it. Unless ``ahead`` nobody
    can write to it meanwhile, however they were started."""
    with alone(url) as free, _connected(url, begin="BEGIN" if ahead else "BEGIN IMMEDIATE") as source:
        served = not free
        if source.dialect.name == "postgresql":
            served = postgres_servers(source) > 0
            source.rollback()
            source.execution_options(isolation_level="REPEATABLE READ")
            if not ahead and not served:
                # Before the first row is read: then the moment seen is the last that anybody wrote in.
                source.execute(text(f"SET LOCAL lock_timeout = '{_WAIT_SECONDS}s'"))
                names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
                source.execute(text(f"LOCK TABLE {names} IN SHARE MODE"))
        yield source, served


@contextmanager
def _writing(url: str) -> Iterator[Connection]:
    """The target, for this run alone."""
    with alone(url) as free:
        if not free:
            raise ConflictError("a server or another copy uses the target")
        with _connected(url, begin="BEGIN") as target:
            if target.dialect.name == "postgresql":
                query = text("SELECT pg_try_advisory_lock(:key)")
                taken = target.execute(query, {"key": _LOCK_KEY}).scalar_one()
                target.commit()
                if not taken:
                    raise ConflictError("another copy into the target is running")
            yield target


@contextmanager
def _connected(url: str, *, begin: str) -> Iterator[Connection]:
    engine = create_engine(blocking_url(make_url(url)), poolclass=NullPool, hide_parameters=True)
    keep_rows_out_of_errors(engine)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_connect)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _sqlite_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    for pragma in (f"busy_timeout = {_WAIT_SECONDS * 1000}", "journal_mode = WAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _exists(url: str) -> bool:
    parsed = make_url(url)
    return parsed.get_backend_name() != "sqlite" or Path(parsed.database or "").is_file()


def _is_begun(target: Connection, identity: str) -> bool:
    """Whether the target holds a begun copy of this source; else it is empty.

    Raises:
        ConflictError: it is neither.
    """
    names = inspect(target).get_table_names()
    version = None
    if "alembic_version" in names:
        version = target.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    if version is not None and version.startswith(migrate.COPYING):
        target.rollback()
        if version != _marker(identity):
            raise ConflictError(
                "the target holds a begun copy of another database, or one that another version began: "
                "give an empty one"
            )
        return True
    if version is None and names:
        raise ConflictError("the target holds tables of something else: give an empty database")
    for table in _tables() if version == migrate.newest() else ():
        if target.execute(select(table).limit(1)).first() is not None:
            raise ConflictError(
                f"the target is not empty, there are rows in {table.name}: nothing is copied over them"
            )
    if version not in (None, migrate.newest()):
        raise ConflictError(f"the target has schema {version} already: give an empty database")
    target.rollback()
    return False


def _tables() -> list[Table]:
    """Parents first, without what migrations fill, as the epochs are moved and the floor is the schema's, and
    without what is counted at the end."""
    apart = (epochs, schema_floor, repository_usage, usage_changes)
    return [table for table in metadata.sorted_tables if table not in apart]


def _identity(source: Connection) -> str:
    """What the source's first account tells about it, so that a copy goes on with no other database.

    Raises:
        ConflictError: there is none.
    """
    query = select(accounts.c.id, accounts.c.name, accounts.c.created_at).order_by(accounts.c.id).limit(1)
    row = source.execute(query).first()
    if row is None:
        raise ConflictError("there is nothing to copy: no server was ever started on the source")
    return hashlib.sha256(repr(tuple(row)).encode()).hexdigest()[:16]


def _marker(identity: str) -> str:
    return f"{migrate.COPYING} {migrate.newest()} {identity}"


def _set_version(target: Connection, version: str) -> None:
    target.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})
