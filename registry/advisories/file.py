"""The file that advisories lie in, read: one SQLite database that is never written to, only replaced."""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast, get_args
from urllib.parse import quote

from registry.advisories.ecosystems import line_of
from registry.advisories.severity import SEVERITIES
from registry.advisories.values import End, Kind, Span
from registry.contract.scan import Severity
from registry.errors import NotFoundError, UnavailableError

APPLICATION_ID = 0x53454156
"""``SEAV``: what ``file`` and we know such a database by."""
SCHEMA = 1
_KINDS: tuple[Kind, ...] = get_args(Kind)
_ENDS: tuple[End, ...] = get_args(End)
V = TypeVar("V")

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE source (
    name TEXT PRIMARY KEY, format TEXT NOT NULL, origin TEXT NOT NULL, as_of TEXT NOT NULL,
    newest_at TEXT NOT NULL, licence TEXT NOT NULL, fixed_only INTEGER NOT NULL, records INTEGER NOT NULL,
    informational INTEGER NOT NULL, digest TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE skip (
    source TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, example TEXT NOT NULL,
    PRIMARY KEY (source, reason)
) WITHOUT ROWID;
CREATE TABLE advisory (
    rid INTEGER PRIMARY KEY, source TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL,
    names TEXT NOT NULL, summary TEXT NOT NULL, severity TEXT NOT NULL, score REAL,
    published_at TEXT NOT NULL, modified_at TEXT NOT NULL
);
CREATE TABLE alias (name TEXT NOT NULL, rid INTEGER NOT NULL, PRIMARY KEY (name, rid)) WITHOUT ROWID;
CREATE TABLE affected (
    ecosystem TEXT NOT NULL, package TEXT NOT NULL, rid INTEGER NOT NULL, n INTEGER NOT NULL,
    spans TEXT NOT NULL, versions TEXT NOT NULL, severity TEXT NOT NULL, score REAL,
    PRIMARY KEY (ecosystem, package, rid, n)
) WITHOUT ROWID;
CREATE TABLE exploited (
    cve TEXT NOT NULL, source TEXT NOT NULL, added_on TEXT NOT NULL, due_on TEXT NOT NULL,
    PRIMARY KEY (cve, source)
) WITHOUT ROWID;
CREATE TABLE likelihood (
    cve TEXT NOT NULL, source TEXT NOT NULL, score REAL NOT NULL, PRIMARY KEY (cve, source)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Source:
    """One source in the file. ``as_of`` is when it was as it is here, ``newest_at`` the newest change that a
    record of it names; ``fixed_only`` says that it tells of nothing that is not fixed yet."""

    name: str
    format: str
    origin: str
    as_of: datetime
    newest_at: datetime | None
    licence: str
    fixed_only: bool
    records: int
    informational: int
    digest: str
    skipped: tuple[tuple[str, int, str], ...]


@dataclass(frozen=True, slots=True)
class Status:
    """What is in the file."""

    generation: str
    sources: tuple[Source, ...]

    @property
    def oldest(self) -> Source | None:
        """The source that was as it is here first: advisories are as old as that."""
        return min(self.sources, key=lambda one: (one.as_of, one.name), default=None)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record about a package, as far as matching needs it."""

    id: str
    kind: Kind
    aliases: tuple[str, ...]
    upstream: tuple[str, ...]
    summary: str
    published_at: datetime | None
    severity: Severity
    score: float | None
    spans: tuple[Span, ...]
    versions: frozenset[str]


class Advisories:
    """The open file. What has replaced it since is not seen; :attr:`is_current` says so.

    One thread at a time may use it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, opened: tuple[int, int]) -> None:
        self._path = path
        self._connection = connection
        self._opened = opened
        self.put_at = datetime.fromtimestamp(opened[1] // 1000 / 1_000_000, UTC)
        """When it was put in its place."""
        self.generation = str(self._one("SELECT value FROM meta WHERE key = 'generation'"))
        """A digest of all that decides what matches; the same as long as no source says anything else."""
        self._lines: dict[str, list[str]] | None = None

    @property
    def is_current(self) -> bool:
        """Whether no other file has taken its place."""
        try:
            return identity(self._path) == self._opened
        except OSError:
            return False

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def status(self) -> Status:
        """Its generation and its sources by name."""
        with damage_is_said(self._path):
            return self._status()

    def _status(self) -> Status:
        skips: dict[str, list[tuple[str, int, str]]] = {}
        for source, *skip in self._rows("SELECT source, reason, count, example FROM skip ORDER BY 1, 2"):
            skips.setdefault(source, []).append((_text(skip[0]), _count(skip[1]), _text(skip[2])))
        rows = self._rows(
            "SELECT name, format, origin, as_of, newest_at, licence, fixed_only, records, informational, "
            "digest FROM source ORDER BY name"
        )
        return Status(
            self.generation,
            tuple(
                Source(
                    name=_text(row[0]),
                    format=_text(row[1]),
                    origin=_text(row[2]),
                    as_of=_moment(row[3]),
                    newest_at=as_time(row[4]),
                    licence=_text(row[5]),
                    fixed_only=bool(row[6]),
                    records=_count(row[7]),
                    informational=_count(row[8]),
                    digest=_text(row[9]),
                    skipped=tuple(skips.get(row[0], ())),
                )
                for row in rows
            ),
        )

    def about(self, ecosystem: str, package: str) -> list[Candidate]:
        """All records about a package, by its folded name, of all ecosystems of the same line."""
        query = (
            "SELECT id, kind, names, summary, published_at, f.severity, f.score, spans, versions "
            "FROM affected AS f JOIN advisory AS a ON a.rid = f.rid "
            "WHERE f.ecosystem = ? AND f.package = ? ORDER BY f.rid, f.n"
        )
        rows = [row for one in self._alike(ecosystem) for row in self._rows(query, one, package)]
        with damage_is_said(self._path):
            return [_candidate(row) for row in rows]

    def count_about(self, ecosystem: str, package: str) -> int:
        """How many :meth:`about` has."""
        query = "SELECT count(*) FROM affected WHERE ecosystem = ? AND package = ?"
        return sum(int(self._rows(query, one, package)[0][0]) for one in self._alike(ecosystem))

    def covers(self, ecosystem: str) -> bool:
        """Whether anything is here about an ecosystem: where nothing is, finding nothing says nothing."""
        return bool(self._alike(ecosystem))

    def _alike(self, ecosystem: str) -> list[str]:
        """The ecosystems here whose records are about the packages of this one."""
        if self._lines is None:
            lines: dict[str, list[str]] = {}
            for one in self.ecosystems():
                lines.setdefault(line_of(one), []).append(one)
            self._lines = lines
        return self._lines.get(line_of(ecosystem), [])

    def ecosystems(self) -> tuple[str, ...]:
        """All ecosystems that records name, in their order."""
        # From one to the next: it need not read all records.
        rows = self._rows(
            "WITH RECURSIVE each(one) AS (SELECT min(ecosystem) FROM affected UNION ALL "
            "SELECT (SELECT min(ecosystem) FROM affected WHERE ecosystem > one) FROM each "
            "WHERE one IS NOT NULL) SELECT one FROM each WHERE one IS NOT NULL"
        )
        return tuple(str(one) for (one,) in rows)

    def elsewhere(self, name: str) -> tuple[Severity, float | None]:
        """What the record with the highest score says of a vulnerability, whatever package it is about."""
        rows = self._rows(
            "SELECT severity, score FROM alias JOIN advisory USING (rid) WHERE name = ? "
            "AND severity != 'unknown' ORDER BY score IS NULL, score DESC, rid LIMIT 1",
            name,
        )
        with damage_is_said(self._path):
            return (_one_of(SEVERITIES, rows[0][0]), _score(rows[0][1])) if rows else ("unknown", None)

    def is_exploited(self, cve: str) -> bool:
        """Whether it is on the list of vulnerabilities that are known to be exploited."""
        return bool(self._rows("SELECT 1 FROM exploited WHERE cve = ? LIMIT 1", cve))

    def likelihood(self, cve: str) -> float | None:
        """How likely it is to be exploited, if a list says so."""
        score = self._one("SELECT max(score) FROM likelihood WHERE cve = ?", cve)
        with damage_is_said(self._path):
            return _score(score)

    def _rows(self, sql: str, *values: object) -> list[Any]:
        with damage_is_said(self._path):
            return self._connection.execute(sql, values).fetchall()

    def _one(self, sql: str, *values: object) -> object:
        rows = self._rows(sql, *values)
        return rows[0][0] if rows else None


def open_advisories(path: Path) -> Advisories:
    """Open the file to read; it may be replaced meanwhile.

    Raises:
        NotFoundError: there is no such file.
        UnavailableError: it is none of advisories, of another version, or damaged.
    """
    try:
        opened = identity(path)
    except OSError as error:
        raise NotFoundError(f"there is no file of advisories at {path}: {error.strerror}") from None
    with damage_is_said(path):
        connection = connect(path)
        try:
            if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise UnavailableError(f"{path} is no file of advisories")
            if (schema := connection.execute("PRAGMA user_version").fetchone()[0]) != SCHEMA:
                raise UnavailableError(f"{path} has schema {schema}, this version reads {SCHEMA}")
            # A view or a computed column in a table's place would be run with each question.
            if _statements(connection) != _OURS:
                raise UnavailableError(f"{path} has other tables than a file of advisories")
            return Advisories(path, connection, opened=opened)
        except BaseException:
            connection.close()
            raise


def _statements(connection: sqlite3.Connection) -> frozenset[str]:
    """What the tables of a database were made by."""
    rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL LIMIT 100").fetchall()
    return frozenset(" ".join(sql.split()) for (sql,) in rows)


_OURS = frozenset(" ".join(one.split()) for one in TABLES.split(";") if one.strip())


def connect(path: Path) -> sqlite3.Connection:
    """A connection that takes the file for one that nobody writes to."""
    address = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
    return sqlite3.connect(address, uri=True, check_same_thread=False, isolation_level=None)


def identity(path: Path) -> tuple[int, int]:
    """What tells one file at a path from the next.

    Raises:
        OSError: there is none.
    """
    found = path.stat()
    return (found.st_ino, found.st_mtime_ns)


@contextmanager
def damage_is_said(path: Path) -> Iterator[None]:
    """Errors of SQLite, and values that are none, as one that names the file.

    Raises:
        UnavailableError: there was one.
    """
    try:
        yield
    except (sqlite3.Error, ValueError, TypeError, RecursionError) as error:
        raise UnavailableError(f"{os.fspath(path)} cannot be read as advisories: {error}") from None


def as_time(text: str) -> datetime | None:
    """A time of the file."""
    return _moment(text) if text else None


def _candidate(row: Any) -> Candidate:
    id_, kind, names, summary, published_at, severity, score, spans, versions = row
    aliases, upstream = json.loads(names)
    return Candidate(
        id=_text(id_),
        kind=_one_of(_KINDS, kind),
        aliases=tuple(map(_text, aliases)),
        upstream=tuple(map(_text, upstream)),
        summary=_text(summary),
        published_at=as_time(published_at),
        severity=_one_of(SEVERITIES, severity),
        score=_score(score),
        spans=tuple(Span(_text(low), _text(end), _one_of(_ENDS, how)) for low, end, how in json.loads(spans)),
        versions=frozenset(_text(versions).split("\n")) if versions else frozenset(),
    )


# A column of SQLite takes a value of any kind, and whoever made the file chose them.


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in the place of a text")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise TypeError(f"{type(value).__name__} in the place of a count")
    return value


def _score(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{type(value).__name__} in the place of a score")
    return float(value)


def _one_of(known: tuple[V, ...], value: object) -> V:
    return known[known.index(cast("V", value))]


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment
