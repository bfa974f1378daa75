"""The database as the use cases see it: a way to read and a way to write, each one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Literal

from sqlalchemy import event, text, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from registry.db.events import epochs

Epoch = Literal["content", "access", "gate"]
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg"}
BUSY_MILLISECONDS = 20_000


class Database:
    """One engine. Reads see one consistent moment; writes commit when the block ends and roll back when it
    raises.

    SQLite has one writer: writers queue in this process first (fair, without polling) and then take the
    file's lock at BEGIN, so that no transaction fails when it turns from reading to writing.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self._engine = _engine(make_url(url), pool_size)
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        self._writer: asyncio.Lock | nullcontext[None] = asyncio.Lock() if self.is_sqlite else nullcontext()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for reading only."""
        async with self._engine.connect() as connection, connection.begin():
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits at the end of the block."""
        async with self._writer, self._engine.connect() as connection:
            await connection.execution_options(seatrial_writes=True)
            async with connection.begin():
                yield connection

    async def ping(self) -> None:
        """Raise if the database cannot answer."""
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Give every connection back."""
        await self._engine.dispose()


async def move_epoch(connection: AsyncConnection, *names: Epoch) -> None:
    """Tell every cache on every replica to look again, in the transaction that made it necessary.

    Last statement of a transaction where possible: the row is shared by all writers until the commit.
    """
    await connection.execute(update(epochs).values({name: epochs.c[name] + 1 for name in names}))


def _engine(url: URL, pool_size: int) -> AsyncEngine:
    backend = url.get_backend_name()
    if backend not in _DRIVERS:
        raise ValueError(f"database {backend!r} is not supported; use sqlite:///FILE or postgresql://…")
    url = url.set(drivername=_DRIVERS[backend])
    if backend == "postgresql":
        # No server-side prepared statements: pgbouncer in transaction mode cannot keep them.
        return create_async_engine(
            url, pool_size=pool_size, max_overflow=pool_size, connect_args={"prepare_threshold": None}
        )
    engine = create_async_engine(url, pool_size=pool_size, max_overflow=pool_size)
    event.listen(engine.sync_engine, "connect", _sqlite_connect)
    event.listen(engine.sync_engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_MILLISECONDS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Any) -> None:
    writes = connection.get_execution_options().get("seatrial_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
