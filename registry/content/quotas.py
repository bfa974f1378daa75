"""How much a repository may hold: the logical bytes of its blobs and manifests, whoever else shares them.

What it holds stands in one row that the database itself keeps (:mod:`registry.db.usage`): it is exact after
any crash, and read by its key. Pulls are never refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.db.content import repositories
from registry.db.dialect import in_turn
from registry.db.usage import repository_usage, used
from registry.errors import DeniedError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.content.repositories import Repository
    from registry.db.engine import Database


async def require_room(database: Database, repository: Repository, more_bytes: int) -> None:
    """Refuse bytes before they are sent, where it is known that there is no room for them.

    Raises:
        DeniedError: with them, the repository would hold more than its quota.
    """
    if repository.quota_bytes is None:
        return
    query = select(used("bytes")).where(repository_usage.c.repository_id == repository.id)
    async with database.read_once() as connection:
        held = (await connection.execute(query)).scalar() or 0
    if held + more_bytes > repository.quota_bytes:
        raise _exceeded(repository.name, held, more_bytes, repository.quota_bytes)


def require_possible(repository: Repository, size: int) -> None:
    """Refuse a blob of ``size`` bytes or more for which there could never be room, however empty it was.

    Raises:
        DeniedError: it is larger than the whole quota.
    """
    if repository.quota_bytes is not None and size > repository.quota_bytes:
        raise DeniedError(
            f"this blob is larger than the {repository.quota_bytes} bytes that the quota of "
            f"{repository.name} allows; make it smaller, or ask an administrator to raise the quota "
            "(seatrial repo set --quota)"
        )


async def enforce(connection: AsyncConnection, repository_id: int, added_bytes: int) -> None:
    """Let the caller's transaction keep the ``added_bytes`` that it has just added, or not.

    Raises:
        DeniedError: with them, the repository holds more than its quota.
    """
    query = select(repositories.c.name, repositories.c.quota_bytes).where(
        repositories.c.id == repository_id, repositories.c.quota_bytes.is_not(None)
    )
    row = (await connection.execute(query)).first()
    if row is None:
        return
    # Of two at once, the second counts what the first has added.
    await in_turn(connection, f"quota of {repository_id}")
    counted = select(used("bytes")).where(repository_usage.c.repository_id == repository_id)
    held = (await connection.execute(counted)).scalar_one()
    if held > row.quota_bytes:
        raise _exceeded(row.name, held - added_bytes, added_bytes, row.quota_bytes)


def _exceeded(name: str, used: int, more: int, quota: int) -> DeniedError:
    needed = f"{more} more" if more else "more"
    return DeniedError(
        f"{name} holds {used} of the {quota} bytes that its quota allows, and this needs {needed}; delete "
        "what is not needed, or ask an administrator to raise the quota (seatrial repo set --quota)",
        detail={"used_bytes": used, "needed_bytes": more, "quota_bytes": quota},
    )
