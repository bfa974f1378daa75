"""The database as the use cases see it: a way to read and a way to write, each one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from copy import copy
from typing import Any, Literal, cast

from sqlalchemy import create_engine, event, select, text, update
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from registry.db.dialect import blocking_url
from registry.db.discreet import keep_rows_out_of_errors
from registry.db.epochlook import BUSY_SECONDS, EpochLook, Epochs, SqliteLook
from registry.db.events import epochs
from registry.db.inuse import APPLICATION_NAME
from registry.db.oneread import THREADS, OneRead
from registry.db.reserve import reserve_for
from registry.errors import StorageFullError

Epoch = Literal["content", "access", "gate"]
First = Callable[[AsyncConnection], Awaitable[None]]
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg"}
_MOVED = "seatrial_moved"
_MOVING = "seatrial_moving"
_LEFT = "seatrial_left"
_BEGIN = "seatrial_begin"


class Bell:
    """Wakes whoever waits in this process. Listen first, look second, wait last: then no ring is missed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.muted = False
        """The process is about to end: nobody should wait any more."""

    def listen(self) -> asyncio.Event:
        """What the next ring sets."""
        return self._event

    def ring(self) -> None:
        """Wake everybody who listens."""
        self._event.set()
        self._event = asyncio.Event()

    def mute(self) -> None:
        """Wake everybody for the last time."""
        self.muted = True
        self.ring()


class Database:
    """One engine, with a connection for each way to use it. Whoever reads with one statement needs no
    transaction around it, which would take longer than the statement.

    SQLite has one writer: writers queue in this process first (fair, without polling) and then take the
    file's lock at BEGIN, so that no transaction fails when it turns from reading to writing.

    ``staleness_seconds`` is how old, on PostgreSQL, :meth:`epochs` may be that another replica has moved.
    ``reserve_bytes`` is the room that is held for SQLite on a disk that others may fill.
    """

    def __init__(
        self, url: str, *, pool_size: int = 10, staleness_seconds: float = 0, reserve_bytes: int = 0
    ) -> None:
        self._engine = _engine(make_url(url), pool_size)
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        self._reserve = reserve_for(url, reserve_bytes)
        self._one_read: OneRead | None = None
        if self.is_sqlite:
            self._one_read = OneRead(_one_read_engine(self._engine.url))
            self._reading_once = self._engine
            self._reading = self._engine
            self._writing = self._engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        else:
            self._reading_once = _at_level(self._engine, "AUTOCOMMIT")
            self._reading = _at_level(self._engine, "REPEATABLE READ")
            self._writing = _at_level(self._engine, "READ COMMITTED")
        self._writer: asyncio.Lock | nullcontext[None] = asyncio.Lock() if self.is_sqlite else nullcontext()
        self._look = _look(self._engine, staleness_seconds)
        self._first: tuple[First, ...] = ()
        self.has_committed = False
        """Whether a transaction that may write has, since :meth:`beginning_with`."""
        self.bell = Bell()
        """Rung after each commit of this process that moved an epoch; other replicas are seen by looking."""

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for reading only: all of its statements see one moment."""
        async with self._reading.connect() as connection:
            yield connection

    @asynccontextmanager
    async def read_once(self) -> AsyncIterator[AsyncConnection]:
        """For one statement that reads: it sees one moment, a second one may see another."""
        if self._one_read is not None:
            yield cast(AsyncConnection, self._one_read)  # as far as one statement needs one
            return
        async with self._reading_once.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits at the end of the block, and rolls back when it raises."""
        self._reserve.look()
        async with self._writer, self._writing.connect() as connection:
            async with connection.begin():
                for name in (_MOVED, _MOVING, _LEFT):
                    connection.info.pop(name, None)
                for first in self._first:
                    await first(connection)
                yield connection
                if moving := connection.info.pop(_MOVING, None):
                    await hold_epochs(connection, *moving)
            self._first, self.has_committed = (), True
            if connection.info.pop(_MOVED, False):
                self._look.forget()
                self.bell.ring()

    def beginning_with(self, *first: First) -> Database:
        """This database for one request, whose first transaction that commits begins with ``first``, after
        what it was to begin with before."""
        other = copy(self)
        other._first, other.has_committed = (*self._first, *first), False
        return other

    def require_room(self) -> None:
        """For whatever adds content: those who remove some must always find room.

        Raises:
            StorageFullError: the disk of SQLite is full.
        """
        if not self._reserve.look():
            raise StorageFullError(
                "the registry's disk is full; push again when the registry's operator has made room"
            )

    async def ping(self) -> None:
        """Raise if the database cannot answer."""
        async with self.read_once() as connection:
            await connection.execute(text("SELECT 1"))

    async def epochs(self) -> Epochs:
        """Where the epochs stand now, over all replicas: no earlier than when this was called.

        SQLite is asked on a connection of its own without leaving the event loop: a few microseconds. Those
        who ask PostgreSQL at the same time share a query.
        """
        return await self._look.now()

    def forget_epochs(self) -> None:
        """What is known of them has been seen to be old, though it may be: the next look asks."""
        self._look.forget()

    async def close(self) -> None:
        """Give every connection back."""
        await self._look.close()
        if self._one_read is not None:
            await asyncio.to_thread(self._one_read.close)
        await self._engine.dispose()


async def move_epoch(connection: AsyncConnection, *names: Epoch) -> None:
    """Tell every cache on every replica to look again, in the transaction that made it necessary.

    It is that transaction's last statement, wherever this is called: the row is shared by all writers until
    the commit, and whoever held it while waiting for another row could be waited for by who holds that.
    """
    if not connection.info.get(_LEFT):
        # A dictionary for its order; each name once.
        connection.info.setdefault(_MOVING, {}).update(dict.fromkeys(names))


async def hold_epochs(connection: AsyncConnection, *names: Epoch) -> None:
    """Let nobody move an epoch before this transaction ends, and see all that was there when one was moved
    last; and move these, if any, at once.

    Take every row first that others may hold who hold or move an epoch later: after this, none but rows of
    the transaction's own repositories, whose locks it has.
    """
    if connection.info.get(_LEFT):
        return
    if not names:
        await connection.execute(select(epochs.c.gate).with_for_update())
        return
    await connection.execute(update(epochs).values({name: epochs.c[name] + 1 for name in names}))
    connection.info[_MOVED] = True


def leave_epochs(connection: AsyncConnection) -> None:
    """Move no epoch for the rest of a transaction that is taken back: all writers would wait for the row."""
    connection.info[_LEFT] = True


def _engine(url: URL, pool_size: int) -> AsyncEngine:
    backend = url.get_backend_name()
    if backend not in _DRIVERS:
        raise ValueError(f"database {backend!r} is not supported; use sqlite:///FILE or postgresql://…")
    url = url.set(drivername=_DRIVERS[backend])
    if backend == "postgresql":
        # No server-side prepared statements: pgbouncer in transaction mode cannot keep them.
        engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            connect_args={"prepare_threshold": None, "application_name": APPLICATION_NAME},
            hide_parameters=True,
        )
        keep_rows_out_of_errors(engine.sync_engine)
        return engine
    from registry.db.onetrip import OneTrip  # noqa: PLC0415 - a registry on PostgreSQL needs none of its driver

    # Parameters hold hashes of secrets and whole manifests: neither belongs into a log.
    engine = create_async_engine(
        url, module=OneTrip(), pool_size=pool_size, max_overflow=pool_size, hide_parameters=True
    )
    event.listen(engine.sync_engine, "connect", _sqlite_connect)
    event.listen(engine.sync_engine, "begin", _sqlite_begin)
    event.listen(engine.sync_engine, "invalidate", _sqlite_let_go)
    return engine


def _at_level(engine: AsyncEngine, level: IsolationLevel) -> AsyncEngine:
    """The engine, with the same pool, whose connections are at an isolation level of PostgreSQL.

    As ``execution_options(isolation_level=…)`` of an engine does it, but for who is cancelled meanwhile: the
    pool never got that connection back, and its level was of the next who had it.
    """
    other = engine.execution_options()

    def set_level(connection: Connection) -> None:
        try:
            connection.execution_options(isolation_level=level)
        except BaseException:
            connection.invalidate()
            connection.close()
            raise

    event.listen(other.sync_engine, "engine_connect", set_level)
    return other


def _look(engine: AsyncEngine, staleness_seconds: float) -> EpochLook:
    if engine.dialect.name == "sqlite":
        return SqliteLook(engine)
    from registry.db.postgreslook import PostgresLook  # noqa: PLC0415 - its driver takes 9 MB

    return PostgresLook(engine, staleness_seconds=staleness_seconds)


def _one_read_engine(url: URL) -> Engine:
    engine = create_engine(blocking_url(url), pool_size=THREADS, hide_parameters=True)
    event.listen(engine, "connect", _sqlite_connect)
    return engine


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_SECONDS * 1000}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begin(connection: Any) -> None:
    if begin := connection.get_execution_options().get(_BEGIN):
        connection.exec_driver_sql(begin)
    else:
        connection.connection.dbapi_connection.begins = True


def _sqlite_let_go(connection: Any, _record: Any, _error: BaseException | None) -> None:
    """Roll back before a connection is closed whose user was cancelled while a statement ran.

    Closing alone does not: SQLite keeps the connection, and the lock of its transaction, until its last
    statement is gone (sqlite3_close_v2), and the one that was broken off may be held by a traceback.
    """
    driver = connection.driver_connection
    # Not by its coroutine, which the cancelled task would have to wait for: first in the queue of its thread.
    if driver._connection is not None:
        driver._tx.put_nowait((None, driver._connection.rollback))
