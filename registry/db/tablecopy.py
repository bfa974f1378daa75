"""The rows of one table, brought from one database to the other and compared."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import LargeBinary, and_, delete, func, insert, literal, select, tuple_, update
from sqlalchemy.exc import DataError

from registry.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import ColumnElement, Connection, Select, Table

Row = tuple[Any, ...]

BATCH_ROWS = 500
_BATCH_BYTES = 8 << 20
# Rows that a cursor holds at once: the log of a run has up to 2 MB, a manifest up to 16.
_FETCH_ROWS, _FETCH_ROWS_BINARY = 20, 2


def count(connection: Connection, table: Table) -> int:
    """Rows of the table."""
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def write(
    source: Connection, target: Connection, table: Table, *, compare: bool, done: Callable[[int], None]
) -> int:
    """Insert what the target does not have, update what differs there; returns how many rows that were.

    Each batch is a transaction of its own. ``compare`` is false where the target is known to hold nothing.

    Raises:
        ConflictError: the target's database cannot keep a row.
    """
    names = list(table.c.keys())
    key = [names.index(column.key) for column in table.primary_key]
    before: Row | None = None
    written = 0
    for batch in _batches(source, table):
        last = tuple(batch[-1][position] for position in key)
        held = _held(target, table, before, last) if compare else {}
        new, changed = [], []
        for row in batch:
            there = held.get(tuple(row[position] for position in key))
            if there is None:
                new.append(dict(zip(names, row, strict=True)))
            elif there != row:
                changed.append(dict(zip(names, row, strict=True)))
        with _naming_the_row(table, [*new, *changed]):
            if new:
                target.execute(insert(table), new)
            for values in changed:
                is_it = and_(*(column == values[column.key] for column in table.primary_key))
                target.execute(update(table).where(is_it).values(values))
        target.commit()
        written += len(new) + len(changed)
        before = last
        done(len(batch))
    return written


def delete_lost(source: Connection, target: Connection, table: Table) -> int:
    """Take away what the source has no more; returns how many rows."""
    columns = list(table.primary_key)
    keys = select(*columns).order_by(*columns)
    ours = _stream(source, keys)
    wanted = next(ours, None)
    lost: list[Row] = []
    for key in _stream(target, keys):
        while wanted is not None and wanted < key:
            wanted = next(ours, None)
        if wanted != key:
            lost.append(key)
    for key in lost:
        is_it = and_(*(column == value for column, value in zip(columns, key, strict=True)))
        target.execute(delete(table).where(is_it))
    target.commit()
    return len(lost)


def checksum(connection: Connection, table: Table, done: Callable[[int], None]) -> tuple[int, str]:
    """How many rows there are, and the SHA-256 of all of them in the order of their key."""
    state, rows = hashlib.sha256(), 0
    binary = _is_binary(table)
    for row in _stream(connection, _in_order(table), binary=binary):
        # repr tells every type and value apart, and both drivers give the same ones.
        state.update(repr(tuple(map(_short, row)) if binary else row).encode())
        rows += 1
        if rows % BATCH_ROWS == 0:
            done(BATCH_ROWS)
    done(rows % BATCH_ROWS)
    return rows, f"sha256:{state.hexdigest()}"


def _batches(connection: Connection, table: Table) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in _stream(connection, _in_order(table), binary=_is_binary(table)):
        batch.append(row)
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if len(batch) >= BATCH_ROWS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _held(target: Connection, table: Table, after: Row | None, upto: Row) -> dict[Row, Row]:
    """The target's rows with a key above ``after`` and not above ``upto``, by key."""
    columns = list(table.primary_key)
    names = list(table.c.keys())
    positions = [names.index(column.key) for column in columns]

    def bound(key: Row) -> ColumnElement[Any]:
        return tuple_(*(literal(value, column.type) for column, value in zip(columns, key, strict=True)))

    query = _in_order(table).where(tuple_(*columns) <= bound(upto))
    if after is not None:
        query = query.where(tuple_(*columns) > bound(after))
    return {
        tuple(row[position] for position in positions): row
        for row in _stream(target, query, binary=_is_binary(table))
    }


def _in_order(table: Table) -> Select[Any]:
    return select(table).order_by(*table.primary_key)


def _stream(connection: Connection, query: Select[Any], *, binary: bool = False) -> Iterator[Row]:
    options = {"yield_per": _FETCH_ROWS_BINARY if binary else _FETCH_ROWS}
    for row in connection.execute(query, execution_options=options):
        yield tuple(row)


def _is_binary(table: Table) -> bool:
    return any(isinstance(column.type, LargeBinary) for column in table.c)


def _short(value: object) -> object:
    return hashlib.sha256(value).digest() if isinstance(value, bytes) else value


@contextmanager
def _naming_the_row(table: Table, rows: list[dict[str, Any]]) -> Iterator[None]:
    try:
        yield
    except DataError:
        for row in rows:
            for name, value in row.items():
                if isinstance(value, str) and "\0" in value:
                    key = ", ".join(str(row[column.key]) for column in table.primary_key)
                    raise ConflictError(
                        f"{table.name}: {name} of the row {key} has a NUL character; PostgreSQL keeps none"
                    ) from None
        raise
