"""What both databases have and SQLAlchemy spells once per dialect."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import BigInteger, any_, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import URL, ColumnElement, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")
_VALUES_PER_STATEMENT = 500
_BLOCKING_DRIVERS = MappingProxyType({"sqlite": "sqlite", "postgresql": "postgresql+psycopg"})


def blocking_url(url: URL) -> URL:
    """The address with the driver that needs no event loop: for commands, migrations and threads."""
    return url.set(drivername=_BLOCKING_DRIVERS[url.get_backend_name()])


def portions(values: Sequence[T], most: int = _VALUES_PER_STATEMENT) -> Iterator[Sequence[T]]:
    """The values, so many at a time; if nothing is said, as many as the ``IN`` of one statement takes."""
    for start in range(0, len(values), most):
        yield values[start : start + most]


def batches(values: Iterable[object]) -> Iterator[Sequence[str]]:
    """As :func:`portions` the values as text, each once."""
    yield from portions(list(dict.fromkeys(map(str, values))))


def insert(connection: AsyncConnection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can say ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def insert_ignoring_conflict(
    connection: AsyncConnection, table: Table, values: Mapping[str, Any] | Sequence[Mapping[str, Any]]
) -> postgresql.Insert | sqlite.Insert:
    """Insert each row unless a unique one stands in its way; with ``returning`` it tells which.

    A unique violation would end the whole transaction on PostgreSQL.
    """
    return insert(connection, table).values(values).on_conflict_do_nothing()


def among(column: ColumnElement[int], ids: Iterable[int], *, is_sqlite: bool) -> ColumnElement[bool]:
    """That a number is one of these. On PostgreSQL as one parameter: its driver reads the text of a statement
    anew each time, and fifty parameters take it longer than as many rows."""
    wanted = sorted(set(ids))
    if is_sqlite:
        return column.in_(wanted)
    return column == any_(literal(wanted, postgresql.ARRAY(BigInteger)))


async def in_turn(connection: AsyncConnection, what: str) -> None:
    """Wait until no other transaction is at ``what``, and be there until this one ends: on SQLite, which has
    one writer, that is so already."""
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(what, 0))))
