"""Deleting what is over, however much it is: in steps, so that nobody waits long for the one writer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement

    from registry.db.engine import Database

AT_ONCE = 1000


async def sweep(database: Database, key: Column[Any], over: ColumnElement[bool]) -> int:
    """Delete the rows of the table of ``key``, its primary key, that are ``over``; how many. What somebody
    else has at the moment stays for the next time: who waits for one row while he has others can be waited
    for."""
    first = select(key).where(over).limit(AT_ONCE).with_for_update(skip_locked=True)
    swept = 0
    while True:
        async with database.write() as connection:
            done = await connection.execute(delete(key.table).where(key.in_(first)))
        swept += done.rowcount
        if done.rowcount < AT_ONCE:
            return swept
