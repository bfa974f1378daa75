"""What one replica at a time is at: rows with ``leased_until``, until one has ``ended_at``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from registry.db.types import db_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from sqlalchemy import Column, Table

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
