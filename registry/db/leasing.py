"""What one replica at a time is at: rows with ``leased_until``, until one has ``ended_at``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from registry.db.dialect import in_turn
from registry.db.types import db_time
from registry.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import timedelta

    from sqlalchemy import Column, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database


async def claim(
    database: Database, table: Table, columns: Sequence[Column[Any]], *, lease: timedelta
) -> Sequence[Any] | None:
    """The first row that nobody is at, for this replica to be at it; ``None`` if there is none."""
    free = (table.c.ended_at.is_(None), table.c.leased_until <= db_time())
    query = select(table.c.id).where(*free).order_by(table.c.id).limit(1)
    async with database.read_once() as connection:
        number = (await connection.execute(query)).scalar()
    if number is None:
        return None
    async with database.write() as connection:
        taken = update(table).where(table.c.id == number, *free).values(leased_until=db_time(lease))
        return (await connection.execute(taken.returning(*columns))).first()


async def count_open(database: Database, table: Table) -> int:
    """How many have not ended."""
    query = select(func.count()).where(table.c.ended_at.is_(None))
    async with database.read_once() as connection:
        return int((await connection.execute(query)).scalar_one())


async def begin_if_due(
    database: Database,
    table: Table,
    begin: Callable[[AsyncConnection], Awaitable[object]],
    *,
    every: timedelta,
    what: str,
) -> None:
    """``begin`` one if the last was asked for so long ago, or there was none; ``what`` they are called takes
    turns."""
    last = select(func.max(table.c.asked_at) > db_time(-every))
    async with database.read_once() as connection:
        if (await connection.execute(last)).scalar():
            return
    async with database.write() as connection:
        await in_turn(connection, what)
        if not (await connection.execute(last)).scalar():
            await begin(connection)


async def find(
    database: Database, table: Table, columns: Sequence[Column[Any]], number: int, *, what: str
) -> Sequence[Any]:
    """The row of this number.

    Raises:
        NotFoundError: there is none, or it is no longer remembered.
    """
    async with database.read_once() as connection:
        row = (await connection.execute(select(*columns).where(table.c.id == number))).first()
    if row is None:
        raise NotFoundError(f"there is no {what} {number}")
    return row
