"""Bytes that stay for a while although nothing names them any more: a backup copies what stood at one moment.

A hold is a row with an end, which its holder puts off again and again; where that was killed, it ends by
itself. Collections go on meanwhile, but for the last step, in which bytes are deleted.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from uuid_utils import uuid7

from registry.db.collections import byte_holds
from registry.db.types import db_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import ColumnElement

    from registry.db.engine import Database

LEASE = timedelta(seconds=120)
_RENEW_SECONDS = 30.0


def is_held() -> ColumnElement[bool]:
    """Whether somebody needs the bytes of all blobs to stay."""
    return exists().where(byte_holds.c.held_until > db_time())


async def ask(database: Database) -> bool:
    """As :func:`is_held`, now."""
    async with database.read_once() as connection:
        return bool((await connection.execute(select(is_held()))).scalar_one())


class Hold:
    """``lapsed``: it ended while its holder still needed it; bytes may be gone."""

    def __init__(self) -> None:
        self.lapsed = False


@asynccontextmanager
async def held_bytes(database: Database) -> AsyncIterator[Hold]:
    """No replica deletes bytes of a blob that has a row at any moment from now to the end of the block."""
    name = str(uuid7())
    async with database.write() as connection:
        await connection.execute(delete(byte_holds).where(byte_holds.c.held_until <= db_time()))
        await connection.execute(insert(byte_holds).values(id=name, held_until=db_time(LEASE)))
    hold = Hold()
    renewing = asyncio.create_task(_renew(database, name, hold))
    try:
        yield hold
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing
        async with database.write() as connection:
            await connection.execute(delete(byte_holds).where(byte_holds.c.id == name))


async def _renew(database: Database, name: str, hold: Hold) -> None:
    while not hold.lapsed:
        await asyncio.sleep(_RENEW_SECONDS)
        # A database that fails may be back before the hold ends; the next time tells.
        with suppress(SQLAlchemyError):
            async with database.write() as connection:
                renewed = await connection.execute(
                    update(byte_holds)
                    .where(byte_holds.c.id == name, byte_holds.c.held_until > db_time())
                    .values(held_until=db_time(LEASE))
                )
            hold.lapsed = renewed.rowcount == 0
