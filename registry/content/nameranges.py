"""Ranges of names, and lists that are read from several of them at once, in order.

A page costs as much as it is long: each range is one of an index, and nothing between them is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import column, or_, union_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import Column, ColumnElement, Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

_AT_ONCE = 20
"""How many ranges one statement reads from, after the first."""


@dataclass(frozen=True, slots=True)
class NameRange:
    """Names with this prefix; only those that match one of ``patterns``, if there are any."""

    prefix: str
    patterns: tuple[str, ...] = ()

    @property
    def end(self) -> str | None:
        """The first text after all names with the prefix, byte by byte; ``None``: there is none."""
        return self.prefix[:-1] + chr(ord(self.prefix[-1]) + 1) if self.prefix else None

    def narrowed(self, prefix: str) -> NameRange | None:
        """What of it has also this prefix, or ``None``."""
        if self.prefix.startswith(prefix):
            return self
        return replace(self, prefix=prefix) if prefix.startswith(self.prefix) else None

    def conditions(self, name: Column[str], after: str) -> list[ColumnElement[bool]] | None:
        """That ``name`` is in it, and after ``after``; ``None``: none can be."""
        if self.end is not None and after >= self.end:
            return None
        found = [name > after if after >= self.prefix else name >= self.prefix]
        if self.end is not None:
            found.append(name < self.end)
        if self.patterns:
            found.append(or_(*(like(name, pattern) for pattern in self.patterns)))
        return found


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


async def read_in_order(
    connection: AsyncConnection,
    streams: Callable[[str], Sequence[Sequence[Select[Any]]]],
    *,
    after: str,
    limit: int,
    allowed: Callable[[Row[*tuple[Any, ...]]], bool],
) -> list[str]:
    """At most ``limit`` names, in order, those after ``after``: of what the streams find, what is allowed.

    ``streams`` makes the statements that find names after a given one, without an order of their own. Each
    reads a range of an index by ``name``; those of one stream follow each other, and two streams may find the
    same.
    """
    names: list[str] = []
    while len(names) < limit:
        found = [await _read(connection, stream, limit) for stream in streams(after)]
        # Beyond the first of those that were cut short, there may be more in between.
        horizon = min((rows[-1].name for rows in found if len(rows) == limit), default=None)
        unique = {row.name: row for rows in found for row in rows if horizon is None or row.name <= horizon}
        names += [name for name in sorted(unique) if allowed(unique[name])]
        if horizon is None:
            break
        after = horizon
    return names[:limit]


async def _read(
    connection: AsyncConnection, stream: Sequence[Select[Any]], limit: int
) -> list[Row[*tuple[Any, ...]]]:
    """The first ``limit`` rows of a stream. Who has roles on hundreds of empty namespaces reads several at a
    time."""
    found: list[Row[*tuple[Any, ...]]] = []
    start, count = 0, 1
    while start < len(stream) and len(found) < limit:
        several = [query.order_by(column("name")).limit(limit) for query in stream[start : start + count]]
        if len(several) == 1:
            found += (await connection.execute(several[0])).all()
        else:
            rows = await connection.execute(union_all(*(query.subquery().select() for query in several)))
            found += sorted(rows, key=lambda row: str(row.name))
        start, count = start + count, _AT_ONCE
    return found[:limit]


def like(name: Column[str], pattern: str) -> ColumnElement[bool]:
    """That ``name`` matches a pattern with ``*``, or is this name."""
    # Names have neither "%" nor "!", and no letters in which LIKE's two meanings would differ.
    return name.like(pattern.replace("_", "!_").replace("*", "%"), escape="!")
