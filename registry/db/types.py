"""Column types and SQL expressions that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Dialect, Integer, Text, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Id = BigInteger().with_variant(Integer, "sqlite")
"""A row number; SQLite counts up only on INTEGER."""

Bytewise = Text().with_variant(Text(collation="C"), "postgresql")
"""Names, tags, digests: compared and ordered byte by byte on both databases."""


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time, kept as whole microseconds since 1970: one order, one arithmetic, no time zones."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Microseconds of an aware time.

        Raises:
            ValueError: the time has no zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        return (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """The aware time of so many microseconds."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class _DbTime(FunctionElement[datetime]):
    inherit_cache = True
    type = UtcTime()


@lru_cache(maxsize=64)  # making it took a fifteenth of a registry's time
def db_time(offset: timedelta = timedelta(0)) -> _DbTime:
    """The database's clock, shifted: leases and expiry are judged by it and never by a replica's own."""
    return _DbTime(literal(offset // timedelta(microseconds=1), BigInteger))


class _StatementTime(_DbTime):
    inherit_cache = True


@lru_cache(maxsize=64)
def statement_time(offset: timedelta = timedelta(0)) -> _StatementTime:
    """The same clock, as it stood when the statement began, shifted. For conditions on many rows: what
    :func:`db_time` says PostgreSQL asks anew for each, and so finds none of them by an index or a join."""
    return _StatementTime(literal(offset // timedelta(microseconds=1), BigInteger))


@compiles(_DbTime, "sqlite")
def _sqlite_time(element: _DbTime, compiler: SQLCompiler, **kw: Any) -> str:
    offset = compiler.process(element.clauses, **kw)
    return f"(CAST(ROUND((julianday('now') - 2440587.5) * 86400000000.0) AS INTEGER) + {offset})"


@compiles(_DbTime, "postgresql")
def _postgresql_time(element: _DbTime, compiler: SQLCompiler, **kw: Any) -> str:
    offset = compiler.process(element.clauses, **kw)
    return f"(CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) + {offset})"


@compiles(_StatementTime, "postgresql")
def _postgresql_statement_time(element: _StatementTime, compiler: SQLCompiler, **kw: Any) -> str:
    offset = compiler.process(element.clauses, **kw)
    return f"(CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000000 AS BIGINT) + {offset})"
