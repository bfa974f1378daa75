"""The check of what repositories are said to hold against what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, cast, func, or_, select, update

from registry.content import repositories as repos
from registry.content.checking import FOUND_MOST, Found, Problem
from registry.db.content import repositories
from registry.db.dialect import insert_ignoring_conflict
from registry.db.usage import COUNTED, held, repository_usage, used

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Select

    from registry.content.checking import Look, Mend
    from registry.db.engine import Database


async def usage_and_rows(look: Look) -> AsyncIterator[Found]:
    """Each repository. Where nobody has told, a quota would be refused too early, or too late."""
    counts = held(repositories.c.id)
    query: Select[Any] = (
        select(
            repositories.c.id,
            repositories.c.name,
            *(used(what).label(f"said_{what}") for what in COUNTED),
            *(counts[what].label(f"held_{what}") for what in COUNTED),
        )
        .outerjoin(repository_usage, repository_usage.c.repository_id == repositories.c.id)
        .where(
            or_(
                repository_usage.c.repository_id.is_(None),
                *(used(what) != counts[what] for what in COUNTED),
            )
        )
        .limit(FOUND_MOST)
    )
    async with look.database.read() as connection:
        rows = (await connection.execute(query)).all()
        counted = select(func.count()).select_from(repositories)
        look.saw(int((await connection.execute(counted)).scalar_one()))
    for row in rows:
        pairs = [(what, getattr(row, f"said_{what}"), getattr(row, f"held_{what}")) for what in COUNTED]
        wrong = [pair for pair in pairs if pair[1] != pair[2]]
        why = "; ".join(f"it is said to hold {said} {what}, and holds {there}" for what, said, there in wrong)
        what = ", ".join(pair[0] for pair in wrong)
        problem = Problem("usage", what, row.name, why, "count anew what it holds")
        yield Found(problem, _count_anew(look.database, row.id))


def _count_anew(database: Database, repository_id: int) -> Mend:
    async def mend() -> bool:
        this = repository_usage.c.repository_id == repository_id
        counts = held(repository_usage.c.repository_id)
        async with database.write() as connection:
            if not await repos.hold(connection, repository_id):
                return False
            none: dict[str, int] = dict.fromkeys(COUNTED, 0)
            await connection.execute(
                insert_ignoring_conflict(
                    connection, repository_usage, none | {"repository_id": repository_id}
                )
            )
            # Whoever comes now leaves his change beside the row; all others have ended.
            locked = select(repository_usage.c.repository_id).where(this)
            await connection.execute(locked.with_for_update(key_share=True))
            values = {
                what: cast(counts[what] - (used(what) - repository_usage.c[what]), BigInteger)
                for what in COUNTED
            }
            wrong = or_(*(used(what) != counts[what] for what in COUNTED))
            done = await connection.execute(update(repository_usage).where(this, wrong).values(values))
        return done.rowcount > 0

    return mend
