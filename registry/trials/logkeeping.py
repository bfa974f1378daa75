"""How much of the logs of a repository's runs is kept: the newest of them. A verdict, what was observed and
what is signed of it stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, literal_column, select, update

from registry.content import repositories as repos
from registry.db.content import repositories
from registry.db.sweeping import AT_ONCE
from registry.db.trials import parts, runs

if TYPE_CHECKING:
    from registry.db.engine import Database

_KEPT = parts.c.log_bytes > literal_column("0")
"""As the index says it."""


async def sweep(database: Database, *, keep_bytes: int) -> int:
    """Remove the oldest logs of each repository that keeps more than ``keep_bytes``, or more than its own row
    says; of how many parts."""
    may = func.coalesce(repositories.c.log_keep_bytes, keep_bytes)
    query = (
        select(repositories.c.id, may.label("may"))
        .join(parts, parts.c.repository_id == repositories.c.id)
        .where(_KEPT)
        .group_by(repositories.c.id, repositories.c.log_keep_bytes)
        .having(func.sum(parts.c.log_bytes) > may)
        .order_by(repositories.c.id)
    )
    async with database.read_once() as connection:
        found = (await connection.execute(query)).all()
    return sum([await _shorten(database, row.id, keep_bytes=row.may) for row in found])


async def _shorten(database: Database, repository_id: int, *, keep_bytes: int) -> int:
    newest_first = (parts.c.finished_at.desc(), parts.c.id.desc())
    so_far = func.sum(parts.c.log_bytes).over(order_by=newest_first).label("so_far")
    ranked = (
        select(parts.c.id, so_far)
        .where(parts.c.repository_id == repository_id, _KEPT, parts.c.state == "done")
        .subquery()
    )
    over = select(ranked.c.id).where(ranked.c.so_far > keep_bytes).limit(AT_ONCE)
    removed = 0
    while True:
        async with database.write() as connection:
            # What asks a part again holds it too.
            await repos.lock(connection, repository_id)
            ids = (await connection.execute(over)).scalars().all()
            await connection.execute(
                update(runs).where(runs.c.part_id.in_(ids), runs.c.log != "").values(log="", log_removed=True)
            )
            await connection.execute(update(parts).where(parts.c.id.in_(ids)).values(log_bytes=None))
        removed += len(ids)
        if len(ids) < AT_ONCE:
            return removed
