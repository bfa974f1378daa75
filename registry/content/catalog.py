"""The catalog: names of the repositories that the caller may pull from.

A page costs as much as it is long, however many repositories there are that the caller does not see: what the
account may see and what the token covers are turned into ranges of an index, which are read in order. Only a
pattern that goes on after its ``*`` makes the database look at every name that begins like it.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import merge
from typing import TYPE_CHECKING

from sqlalchemy import or_

from registry.auth.policy import decide, pull_patterns, pullable
from registry.content import repositories as repos
from registry.db.content import repositories
from registry.db.dialect import batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from sqlalchemy import ColumnElement, Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.auth.policy import Visibility
    from registry.db.engine import Database

_KINDS = 3


@dataclass(frozen=True, slots=True)
class NameRange:
    """Names with this prefix; only those that match one of ``patterns``, if there are any."""

    prefix: str
    patterns: tuple[str, ...] = ()

    @property
    def end(self) -> str | None:
        """The first text after all names with the prefix, byte by byte; ``None``: there is none."""
        return self.prefix[:-1] + chr(ord(self.prefix[-1]) + 1) if self.prefix else None


def ranges(patterns: Iterable[str]) -> list[NameRange]:
    """The ranges of names in which everything lies that matches a pattern with ``*``, in order and apart."""
    found: list[NameRange] = []
    for pattern in sorted(patterns, key=lambda text: (text.partition("*")[0], text)):
        prefix, _, rest = pattern.partition("*")
        wanted = (pattern,) if rest.strip("*") else ()
        if not found or not prefix.startswith(found[-1].prefix):
            found.append(NameRange(prefix, wanted))
        elif found[-1].patterns:
            # Inside the last one, of which only parts are wanted; it would stand first if it were all.
            found[-1] = NameRange(found[-1].prefix, (*found[-1].patterns, pattern))
    return found


async def list_names(database: Database, *, actor: Actor, limit: int, after: str | None) -> list[str]:
    """At most ``limit`` names in bytewise order, those after ``after``, which need not exist."""
    patterns = pull_patterns(actor)
    exact = {pattern for pattern in patterns if "*" not in pattern}
    async with database.read() as connection:
        names = await _of_names(connection, actor, exact, after or "")
        walked: list[str] = []
        for part in ranges(patterns - exact):
            if len(walked) >= limit:
                break
            walked += await _of_range(connection, actor, part, after or "", limit - len(walked))
    return sorted({*names, *walked})[:limit]


async def _of_names(connection: AsyncConnection, actor: Actor, names: Iterable[str], after: str) -> list[str]:
    found: list[Row[Any, Any, Any, Any]] = []
    for batch in batches(name for name in names if name > after):
        found += await connection.execute(repos.COLUMNS.where(repositories.c.name.in_(batch)))
    return _allowed(actor, found)


async def _of_range(
    connection: AsyncConnection, actor: Actor, part: NameRange, after: str, limit: int
) -> list[str]:
    if part.end is not None and after >= part.end:
        return []
    names: list[str] = []
    while len(names) < limit:
        rows = [
            (await connection.execute(query.limit(limit))).all()
            for query in _queries(pullable(actor), part, after)
        ]
        page = list(merge(*rows, key=lambda row: str(row.name)))[:limit]
        names += _allowed(actor, page)
        if len(page) < limit:
            break
        after = page[-1].name
    return names[:limit]


def _queries(kinds: Sequence[Visibility], part: NameRange, after: str) -> list[Select[Any, Any, Any, Any]]:
    """One for each kind, so that each reads its own range of the index."""
    name = repositories.c.name
    query = repos.COLUMNS.where(name > after if after >= part.prefix else name >= part.prefix)
    if part.end is not None:
        query = query.where(name < part.end)
    if part.patterns:
        query = query.where(or_(*(_like(pattern) for pattern in part.patterns)))
    query = query.order_by(name)
    if len(kinds) == _KINDS:
        return [query]
    return [query.where(repositories.c.visibility == kind) for kind in kinds]


def _like(pattern: str) -> ColumnElement[bool]:
    # Names have neither "%" nor "!", and no letters in which LIKE's two meanings would differ.
    return repositories.c.name.like(pattern.replace("_", "!_").replace("*", "%"), escape="!")


def _allowed(actor: Actor, rows: Iterable[Row[Any, Any, Any, Any]]) -> list[str]:
    """Those that the policy lets the actor pull from: it decides, and the ranges only find."""
    return [row.name for row in rows if decide(actor, "pull", row.name, row.visibility).allowed]
