"""The file that advisories lie in, written: built aside, checked, and put in the place of the one before.

The same sources give the same bytes. Rows are numbered by source and id, no matter in which order sources
came, and nothing in the file says when it was written.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from registry.advisories.file import APPLICATION_ID, SCHEMA, TABLES, connect, open_advisories
from registry.advisories.staging import Counted, Incoming, stage
from registry.errors import ConflictError, NotFoundError, UnavailableError


def build(path: Path, incoming: Iterable[Incoming], *, drop: Iterable[str] = ()) -> dict[str, Counted]:
    """Put sources in the place of those of the same names, drop others, and replace the file.

    Nothing is changed unless all is well. Who reads the file meanwhile keeps what was there.

    Raises:
        RequestInvalidError: there is nothing left of a source, or two have one name.
        NotFoundError: there is no source of a name to drop.
        ConflictError: another is at it.
        UnavailableError: the file that is there cannot be read, or the new one cannot be written.
    """
    counted: dict[str, Counted] = {}

    def make(built: Path) -> None:
        staged = path.with_name(f".{path.name}.staged")
        try:
            counted.update(stage(staged, incoming))
            _write(built, staged, path if path.exists() else None, counted, set(drop))
        except sqlite3.Error as error:
            raise UnavailableError(f"{path} cannot be made: {error}") from None
        finally:
            staged.unlink(missing_ok=True)

    replace(path, make)
    return counted


def replace(path: Path, make: Callable[[Path], None]) -> None:
    """Put the file that ``make`` writes in the place of the one at ``path``, once it is checked.

    Raises:
        ConflictError: another is at it.
        UnavailableError: what was made is no file of advisories, or damaged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        built = path.with_name(f".{path.name}.built")
        try:
            make(built)
            swap(built, path)
        finally:
            built.unlink(missing_ok=True)


def swap(built: Path, path: Path) -> None:
    """Check a file of advisories, and put it in the place of the one at ``path``.

    Raises:
        UnavailableError: it is none, or damaged; ``path`` is as it was.
    """
    check(built)
    with built.open("rb") as file:
        os.fsync(file.fileno())
    built.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check(path: Path) -> None:
    """Look whether a file is one of advisories, whole, and finds what it holds.

    Raises:
        NotFoundError: there is no such file.
        UnavailableError: it is not.
    """
    with closing(open_advisories(path)) as advisories, closing(connect(path)) as connection:
        try:
            if (said := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise UnavailableError(f"{path} is damaged: {said}")
            for source in advisories.status().sources:
                canary = connection.execute(
                    "SELECT ecosystem, package, a.id FROM advisory AS a JOIN affected USING (rid) "
                    "WHERE source = ? LIMIT 1",
                    (source.name,),
                ).fetchone()
                if canary is not None and canary[2] not in {
                    one.id for one in advisories.about(canary[0], canary[1])
                }:
                    raise UnavailableError(f"{path} does not find {canary[2]}, which it holds")
            generation = connection.execute("SELECT name, digest FROM source ORDER BY name").fetchall()
        except sqlite3.Error as error:
            raise UnavailableError(f"{path} is damaged: {error}") from None
        if _generation(generation) != advisories.generation:
            raise UnavailableError(f"{path} does not hold what it says")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"{path} is being replaced by another process") from None
        yield
    finally:
        os.close(lock)


def _write(
    built: Path, staged: Path, before: Path | None, counted: dict[str, Counted], drop: set[str]
) -> None:
    """Merge what is staged with the sources of the file before that stay."""
    built.unlink(missing_ok=True)
    with closing(sqlite3.connect(built, isolation_level=None, uri=True)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.executescript(TABLES)
        connection.execute("ATTACH ? AS staged", (str(staged),))
        files = ["staged"]
        connection.execute("CREATE TEMP TABLE kept (file TEXT, source TEXT, PRIMARY KEY (file, source))")
        connection.executemany("INSERT INTO kept VALUES ('staged', ?)", [(name,) for name in counted])
        if before is not None:
            check(before)
            connection.execute(
                "ATTACH ? AS before", (f"file:{quote(str(before.resolve()))}?mode=ro&immutable=1",)
            )
            files.append("before")
            there = {name for (name,) in connection.execute("SELECT name FROM before.source")}
            stay = there - set(counted) - drop
            connection.executemany("INSERT INTO kept VALUES ('before', ?)", [(name,) for name in stay])
        else:
            there = set()
        if missing := drop - there:
            raise NotFoundError(f"there is no source {', '.join(sorted(missing))}")
        connection.execute("BEGIN")
        _merge(connection, files)
        rows = connection.execute("SELECT name, digest FROM source ORDER BY name").fetchall()
        connection.execute("INSERT INTO meta VALUES ('generation', ?)", (_generation(rows),))
        connection.execute("COMMIT")


def _merge(connection: sqlite3.Connection, files: list[str]) -> None:
    """Copy all tables in the order of their keys, records numbered anew: bytes depend on content only."""
    connection.execute(
        "CREATE TEMP TABLE number (file TEXT, old INTEGER, rid INTEGER, PRIMARY KEY (file, old))"
    )
    numbered = _union(files, "k.file, t.rid, t.source, t.id", "advisory", _OF_SOURCE)
    order = "row_number() OVER (ORDER BY source, id)"
    connection.execute(f"INSERT INTO number SELECT file, rid, {order} FROM ({numbered})")  # noqa: S608
    for table, columns, joined, order in _COPIED:
        connection.execute(f"INSERT INTO {table} {_union(files, columns, table, joined)} ORDER BY {order}")


_OF_SOURCE = "JOIN kept AS k ON k.file = '{file}' AND k.source = t.source"
_OF_RECORD = "JOIN number AS n ON n.file = '{file}' AND n.old = t.rid"
_COPIED = (
    ("source", "t.*", "JOIN kept AS k ON k.file = '{file}' AND k.source = t.name", "1"),
    ("skip", "t.*", _OF_SOURCE, "1, 2"),
    ("exploited", "t.*", _OF_SOURCE, "1, 2"),
    ("likelihood", "t.*", _OF_SOURCE, "1, 2"),
    (
        "advisory",
        "n.rid, source, id, kind, names, summary, severity, score, published_at, modified_at",
        _OF_RECORD,
        "1",
    ),
    ("alias", "name, n.rid", _OF_RECORD, "1, 2"),
    ("affected", "ecosystem, package, n.rid, n, spans, versions, severity, score", _OF_RECORD, "1, 2, 3, 4"),
)
"""Tables with the columns to copy, what they are joined with, and the order of their keys."""


def _union(files: list[str], columns: str, table: str, joined: str) -> str:
    return " UNION ALL ".join(
        f"SELECT {columns} FROM {file}.{table} AS t {joined.format(file=file)}"  # noqa: S608  (names of ours)
        for file in files
    )


def _generation(sources: Iterable[tuple[str, str]]) -> str:
    digest = hashlib.sha256(f"schema {SCHEMA}\n".encode())
    for name, content in sources:
        digest.update(f"{name}\n{content}\n".encode())
    return f"sha256:{digest.hexdigest()}"
