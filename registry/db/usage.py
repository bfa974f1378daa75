"""How much each repository holds: one row, which triggers of the database keep.

They are made by a migration, and count whatever comes and goes by whatever way: pushes, mounts, deletes,
collections, cascades, and what an older version of the registry does beside this one. Nobody waits for that
row: where another transaction has it, PostgreSQL writes a change beside it, and whoever comes next adds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from sqlalchemy import BigInteger, Column, ForeignKey, Table, cast, delete, func, insert, select

from registry.db.content import blob_links, blobs, manifests, repositories, tags, upload_sessions
from registry.db.tables import metadata
from registry.db.types import Id

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

Counted = Literal["bytes", "tags", "uploads"]
COUNTED: tuple[Counted, ...] = get_args(Counted)

repository_usage = Table(
    "repository_usage",
    metadata,
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    # The logical bytes of its blobs and manifests, whoever else shares them.
    Column("bytes", BigInteger, nullable=False),
    Column("tags", BigInteger, nullable=False),
    # Upload sessions that are open, or not swept yet.
    Column("uploads", BigInteger, nullable=False),
)

usage_changes = Table(
    "usage_changes",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # No foreign key, which would wait for whoever has the repository.
    Column("repository_id", Id, nullable=False, index=True),
    *(Column(name, BigInteger, nullable=False) for name in COUNTED),
)


def used(what: Counted) -> ColumnElement[int]:
    """How much the repository of a row of :data:`repository_usage` holds. Read it in one statement: another
    one may see a change twice, or not at all."""
    changes = (
        select(func.sum(usage_changes.c[what]))
        .where(usage_changes.c.repository_id == repository_usage.c.repository_id)
        .scalar_subquery()
    )
    # PostgreSQL adds up to another type.
    return cast(repository_usage.c[what] + func.coalesce(changes, 0), BigInteger)


def held(here: ColumnElement[int]) -> dict[Counted, ColumnElement[int]]:
    """How much the repository of this number holds, counted row by row."""
    of_blobs = (
        select(func.sum(blobs.c.size))
        .join(blob_links, blob_links.c.blob_id == blobs.c.id)
        .where(blob_links.c.repository_id == here)
    )
    of_manifests = select(func.sum(manifests.c.size)).where(manifests.c.repository_id == here)
    size = func.coalesce(of_blobs.scalar_subquery(), 0) + func.coalesce(of_manifests.scalar_subquery(), 0)
    of_tags, of_uploads = (
        select(func.count()).where(table.c.repository_id == here).scalar_subquery()
        for table in (tags, upload_sessions)
    )
    return {"bytes": cast(size, BigInteger), "tags": of_tags, "uploads": of_uploads}


def recount(connection: Connection) -> None:
    """Count anew what all repositories hold, of which nobody changes anything meanwhile."""
    counts = held(repositories.c.id)
    for table in (usage_changes, repository_usage):
        connection.execute(delete(table))
    columns = ["repository_id", *COUNTED]
    connection.execute(
        insert(repository_usage).from_select(
            columns, select(repositories.c.id, *(counts[name] for name in COUNTED))
        )
    )
