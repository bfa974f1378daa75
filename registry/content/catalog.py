"""The catalog: names of the repositories that the caller may pull from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.auth.policy import decide
from registry.content import repositories as repos
from registry.db.content import repositories

if TYPE_CHECKING:
    from registry.auth.actor import Actor
    from registry.db.engine import Database

_BATCH = 1000


async def list_names(database: Database, *, actor: Actor, limit: int, after: str | None) -> list[str]:
    """At most ``limit`` names in bytewise order, those after ``after``, which need not exist."""
    names: list[str] = []
    last = after or ""
    async with database.read() as connection:
        while len(names) < limit:
            query = repos.COLUMNS.where(repositories.c.name > last).order_by(repositories.c.name)
            rows = (await connection.execute(query.limit(_BATCH))).all()
            names += [row.name for row in rows if decide(actor, "pull", row.name, row.visibility).allowed]
            if len(rows) < _BATCH:
                break
            last = rows[-1].name
    return names[:limit]
