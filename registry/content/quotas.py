"""How much a repository may hold: the logical bytes of its blobs and manifests, whoever else shares them.

What it holds is counted from its links, not kept beside them: it is exact after any crash, and costs nothing
where there is no quota. Pulls are never refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, cast, func, select

from registry.db.content import blob_links, blobs, manifests, repositories
from registry.errors import DeniedError

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
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
    async with database.read_once() as connection:
        used = (await connection.execute(select(used_bytes(repository.id)))).scalar_one()
    if used + more_bytes > repository.quota_bytes:
        raise _exceeded(repository.name, used, more_bytes, repository.quota_bytes)


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
    # Of two at once, the second counts what the first has added.
    row = (await connection.execute(query.with_for_update(key_share=True))).first()
    if row is None:
        return
    used = (await connection.execute(select(used_bytes(repository_id)))).scalar_one()
    if used > row.quota_bytes:
        raise _exceeded(row.name, used - added_bytes, added_bytes, row.quota_bytes)


def used_bytes(repository_id: int | ColumnElement[int]) -> ColumnElement[int]:
    """What a repository holds, as an expression."""
    # PostgreSQL adds up to another type.
    of_blobs = (
        select(cast(func.coalesce(func.sum(blobs.c.size), 0), BigInteger))
        .join(blob_links, blob_links.c.blob_id == blobs.c.id)
        .where(blob_links.c.repository_id == repository_id)
        .correlate(repositories)
        .scalar_subquery()
    )
    of_manifests = (
        select(cast(func.coalesce(func.sum(manifests.c.size), 0), BigInteger))
        .where(manifests.c.repository_id == repository_id)
        .correlate(repositories)
        .scalar_subquery()
    )
    return of_blobs + of_manifests


def _exceeded(name: str, used: int, more: int, quota: int) -> DeniedError:
    needed = f"{more} more" if more else "more"
    return DeniedError(
        f"{name} holds {used} of the {quota} bytes that its quota allows, and this needs {needed}; delete "
        "what is not needed, or ask an administrator to raise the quota (seatrial repo set --quota)",
        detail={"used_bytes": used, "needed_bytes": more, "quota_bytes": quota},
    )
