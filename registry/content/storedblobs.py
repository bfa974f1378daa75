"""Blobs as their rows have them: for whoever goes through the bytes of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from registry.db.content import blobs
from registry.oci.digest import Digest, parse_digest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import ColumnElement

    from registry.db.engine import Database

_PAGE_ROWS = 500


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as its row has it."""

    id: int
    digest: Digest
    size: int
    locator: str


SELECT = select(blobs.c.id, blobs.c.digest, blobs.c.size, blobs.c.locator)
"""What :func:`from_row` needs."""


def from_row(row: Any) -> StoredBlob:
    """The blob of such a row."""
    return StoredBlob(row.id, parse_digest(row.digest), row.size, row.locator)


async def list_all(database: Database, *which: ColumnElement[bool]) -> AsyncIterator[StoredBlob]:
    """All blobs, or which of them, in the order of their numbers; a page is read when it is needed."""
    query, last = SELECT.where(*which).order_by(blobs.c.id).limit(_PAGE_ROWS), 0
    while True:
        async with database.read_once() as connection:
            rows = (await connection.execute(query.where(blobs.c.id > last))).all()
        for row in rows:
            yield from_row(row)
        if not rows:
            return
        last = rows[-1].id
