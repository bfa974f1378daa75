"""Sources on their way into the file: taken apart into a database of their own, beside it.

An archive may hold more than memory does.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from registry.advisories.file import TABLES
from registry.advisories.values import Advisory, Exploited, Item, Skip
from registry.errors import RequestInvalidError

_EXAMPLE = 200
_CONTENT = """
CREATE UNIQUE INDEX one ON advisory (source, id);
CREATE TABLE content (
    source TEXT NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (source, key)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A source to be put in the place of the one of its name. ``as_of`` is RFC 3339 in UTC with seconds."""

    name: str
    format: str
    origin: str
    as_of: str
    licence: str
    fixed_only: bool
    items: Iterable[Item]


@dataclass(slots=True)
class Counted:
    """What came of a source."""

    records: int = 0
    informational: int = 0
    newest_at: str = ""
    skips: dict[str, tuple[int, str]] = field(default_factory=dict)
    digest: str = ""

    def skip(self, one: Skip) -> None:
        """Count one more that was left out, and keep the first as the example."""
        count, example = self.skips.get(one.reason, (0, one.where[:_EXAMPLE]))
        self.skips[one.reason] = (count + 1, example)


def stage(staged: Path, incoming: Iterable[Incoming]) -> dict[str, Counted]:
    """Take sources apart.

    Raises:
        RequestInvalidError: nothing is left of one, or two have one name.
    """
    staged.unlink(missing_ok=True)
    counted: dict[str, Counted] = {}
    with closing(sqlite3.connect(staged, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.executescript(TABLES + _CONTENT)
        connection.execute("BEGIN")
        for source in incoming:
            if source.name in counted:
                raise RequestInvalidError(f"two sources are called {source.name}")
            counted[source.name] = done = _Staging(connection, source.name).take(source.items)
            digest = hashlib.sha256(f"{source.format}\n{int(source.fixed_only)}\n".encode())
            for key, one in connection.execute(
                "SELECT key, digest FROM content WHERE source = ? ORDER BY key", (source.name,)
            ):
                digest.update(key.encode() + b"\n" + one)
                done.records += 1
            done.digest = f"sha256:{digest.hexdigest()}"
            if done.records == 0:
                raise RequestInvalidError(f"nothing is left of {source.origin}: {_why(done)}")
            connection.execute(
                "INSERT INTO source VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    source.name, source.format, source.origin, source.as_of, done.newest_at, source.licence,
                    int(source.fixed_only), done.records, done.informational, done.digest,
                ),
            )  # fmt: skip
            connection.executemany(
                "INSERT INTO skip VALUES (?, ?, ?, ?)",
                [(source.name, reason, *skip) for reason, skip in sorted(done.skips.items())],
            )
        connection.execute("COMMIT")
    return counted


def _why(done: Counted) -> str:
    if not done.skips:
        return "it holds no records"
    return "; ".join(
        f"{reason} ({count}, as {example})" for reason, (count, example) in sorted(done.skips.items())
    )


@dataclass(slots=True)
class _Staging:
    connection: sqlite3.Connection
    source: str
    counted: Counted = field(default_factory=Counted)

    def take(self, items: Iterable[Item]) -> Counted:
        for item in items:
            if isinstance(item, Skip):
                self.counted.skip(item)
            elif isinstance(item, Advisory):
                self._advisory(item)
            elif isinstance(item, Exploited):
                self._keep(item.cve, item)
                self.connection.execute(
                    "INSERT OR REPLACE INTO exploited VALUES (?, ?, ?, ?)",
                    (item.cve, self.source, item.added_on, item.due_on),
                )
                self.counted.newest_at = max(self.counted.newest_at, _midnight(item.added_on))
            else:
                self._keep(item.cve, item)
                self.connection.execute(
                    "INSERT OR REPLACE INTO likelihood VALUES (?, ?, ?)", (item.cve, self.source, item.score)
                )
        return self.counted

    def _keep(self, key: str, content: object) -> None:
        """Keep the digest of what decides matches."""
        digest = hashlib.sha256(repr(content).encode()).digest()
        self.connection.execute("INSERT OR REPLACE INTO content VALUES (?, ?, ?)", (self.source, key, digest))

    def _advisory(self, one: Advisory) -> None:
        before = self.connection.execute(
            "SELECT rid, modified_at, kind FROM advisory WHERE source = ? AND id = ?", (self.source, one.id)
        ).fetchone()
        if before is not None:
            self.counted.skip(Skip(one.id, "there is a newer record of the same id"))
            if before[1] > one.modified_at:
                return
            self.counted.informational -= before[2] == "informational"
            for table in ("advisory", "alias", "affected"):
                self.connection.execute(f"DELETE FROM {table} WHERE rid = ?", (before[0],))  # noqa: S608
        self._keep(one.id, replace(one, modified_at=""))
        self.counted.informational += one.kind == "informational"
        self.counted.newest_at = max(self.counted.newest_at, one.modified_at)
        names = json.dumps([one.aliases, one.upstream], separators=(",", ":"))
        rid = self.connection.execute(
            "INSERT INTO advisory (source, id, kind, names, summary, severity, score, published_at, "
            "modified_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self.source, one.id, one.kind, names, one.summary, one.severity, one.score, one.published_at,
                one.modified_at,
            ),
        ).lastrowid  # fmt: skip
        # A bulletin about several says nothing about how bad one of them is.
        same = {one.id, *one.aliases, *(one.upstream if len(one.upstream) == 1 else ())}
        self.connection.executemany("INSERT INTO alias VALUES (?, ?)", [(name, rid) for name in sorted(same)])
        self.connection.executemany(
            "INSERT INTO affected VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    each.ecosystem, each.package, rid, n,
                    json.dumps([[s.introduced, s.end, s.how] for s in each.spans], separators=(",", ":")),
                    "\n".join(sorted(each.versions)), each.severity, each.score,
                )
                for n, each in enumerate(one.affected)
            ],
        )  # fmt: skip


def _midnight(day: str) -> str:
    return f"{day}T00:00:00+00:00"
