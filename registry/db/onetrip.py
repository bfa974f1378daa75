"""A statement of a transaction on SQLite, in one trip to the thread of its connection.

The asynchronous driver makes four such trips for it: for the cursor, the statement, the rows and the cursor's
end. And it makes one to roll back whenever a connection comes back, also where nothing has begun.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiosqlite
from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_connection
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.util import immutabledict

_Send = Callable[[sqlite3.Cursor], object]


@dataclass(frozen=True, slots=True)
class _Left:
    """What SQLAlchemy reads of a cursor beside its rows."""

    description: Any = None
    lastrowid: int | None = None
    rowcount: int = -1
    arraysize: int = 1


class OneTripCursor(AsyncAdapt_aiosqlite_cursor):
    """What a statement has left: its cursor in the thread is closed when its rows come."""

    __slots__ = ()

    def __init__(self, adapt_connection: AsyncAdapt_dbapi_connection) -> None:
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection._connection
        self._cursor: Any = _Left()
        self._soft_closed_memoized = immutabledict()
        self._rows = deque()

    async def _execute_async(self, operation: Any, parameters: Any) -> None:
        await self._go(lambda cursor: cursor.execute(operation, parameters or ()))

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> None:
        await self._go(lambda cursor: cursor.executemany(operation, seq_of_parameters))

    async def _go(self, send: _Send) -> None:
        connection = self._adapt_connection
        assert isinstance(connection, OneTripConnection)
        async with connection._execute_mutex:
            begin, connection.begins, connection.has_ended = connection.begins, False, False
            carry_out = partial(_carry_out, send, begin=begin)
            self._cursor, rows = await self._connection._execute(carry_out, self._connection._conn)
        self._rows = deque(rows)

    async def _async_soft_close(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Forget the rows."""
        self._rows.clear()


class OneTripConnection(AsyncAdapt_aiosqlite_connection):
    """One that rolls back where there may be something to. ``begins``: a transaction does with the next
    statement, which is when SQLite would look for the first time."""

    __slots__ = ("begins", "has_ended")

    _cursor_cls = OneTripCursor

    def __init__(self, dbapi: Any, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self.begins = self.has_ended = False

    def commit(self) -> None:
        """End the transaction."""
        super().commit()
        self.begins, self.has_ended = False, True

    def rollback(self) -> None:
        """Take the transaction back, unless nothing was sent since the last one ended."""
        self.begins = False
        if not self.has_ended:
            super().rollback()
            self.has_ended = True


class OneTrip(AsyncAdapt_aiosqlite_dbapi):
    """The driver, for :func:`sqlalchemy.ext.asyncio.create_async_engine`'s ``module``."""

    def __init__(self) -> None:
        super().__init__(aiosqlite, sqlite3)

    def connect(self, *given: Any, **options: Any) -> OneTripConnection:
        """A connection, with a thread of its own."""
        made = super().connect(*given, **options)
        return OneTripConnection(self, made._connection)


def _carry_out(send: _Send, connection: sqlite3.Connection, *, begin: bool) -> tuple[_Left, Sequence[Any]]:
    with closing(connection.cursor()) as cursor:
        if begin:
            cursor.execute("BEGIN")
        send(cursor)
        rows = cursor.fetchall() if cursor.description else ()
        return _Left(cursor.description, cursor.lastrowid, cursor.rowcount), rows
