"""Where the epochs stand on PostgreSQL. Its driver takes 9 MB: only who has a PostgreSQL imports this."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from registry.db.epochlook import Epochs, by_engine
from registry.db.inuse import APPLICATION_NAME


class PostgresLook:
    """Asks on a raw connection of its own: through SQLAlchemy and a pool the same query takes five times the
    CPU. Whoever asks while a query runs waits for the next one, which then answers all who wait."""

    def __init__(self, engine: AsyncEngine, *, staleness_seconds: float) -> None:
        self._engine = engine
        self._staleness_seconds = staleness_seconds
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._cursor: psycopg.AsyncCursor[Any] | None = None
        self._waiters: list[asyncio.Future[Epochs]] = []
        self._asking: asyncio.Task[None] | None = None
        self._known: Epochs | None = None
        self._known_at = 0.0
        self._forgotten = 0

    async def now(self) -> Epochs:
        """The epochs after every commit before this call, or before ``staleness_seconds`` ago."""
        if self._known is not None and time.monotonic() - self._known_at < self._staleness_seconds:
            return self._known
        waiter: asyncio.Future[Epochs] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_while_waited_for())
        return await waiter

    def forget(self) -> None:
        """This process has moved an epoch: who wrote here reads it here."""
        self._known = None
        self._forgotten += 1

    async def close(self) -> None:
        """Give the connection back."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._disconnect()

    async def _ask_while_waited_for(self) -> None:
        waiters: list[asyncio.Future[Epochs]] = []
        try:
            while self._waiters:
                waiters, self._waiters = self._waiters, []
                # Of the moment before: what is committed while the query runs it may have missed.
                asked_at, forgotten = time.monotonic(), self._forgotten
                try:
                    found = await self._ask()
                except Exception as error:  # whatever it is, it belongs to those who asked
                    for waiter in waiters:
                        if not waiter.done():
                            waiter.set_exception(error)
                    continue
                if self._staleness_seconds and forgotten == self._forgotten:
                    self._known, self._known_at = found, asked_at
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(found)
        finally:
            self._asking = None
            for waiter in (*waiters, *self._waiters):
                waiter.cancel()  # of what is done already, nothing comes

    async def _ask(self) -> Epochs:
        try:
            if self._cursor is None:
                await self._connect()
            assert self._cursor is not None
            await self._cursor.execute("SELECT content, access, gate FROM epochs")
            row = await self._cursor.fetchone()
        except psycopg.Error:
            # The server was restarted, or cannot be reached: the pool knows what to do, and what to raise.
            await self._disconnect()
            return await by_engine(self._engine)
        assert row is not None
        return Epochs(*row)

    async def _connect(self) -> None:
        arguments, options = self._engine.dialect.create_connect_args(self._engine.url)
        self._connection = await psycopg.AsyncConnection.connect(
            *arguments,
            **{
                **options,
                "autocommit": True,
                "prepare_threshold": None,
                "application_name": APPLICATION_NAME,
            },
        )
        self._cursor = self._connection.cursor()

    async def _disconnect(self) -> None:
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            await connection.close()
