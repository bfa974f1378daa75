"""Bringing back what a run of a retention policy has deleted, some of it at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from registry.content import tagmoves
from registry.db.content import manifests, tags
from registry.db.outbox import record
from registry.db.retention import retention_items
from registry.db.types import db_time
from registry.errors import (
    ConflictError,
    DeniedError,
    ManifestBlobUnknownError,
    ManifestInvalidError,
    ManifestUnknownError,
)
from registry.oci.digest import parse_digest

if TYPE_CHECKING:
    from typing import Any

    from registry.content.retentionruns import Run
    from registry.content.tagmoves import Mover

AT_ONCE = 50
RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class NotRestored:
    """A tag, or (without one) a manifest, that could not be brought back, and why."""

    tag: str | None
    digest: str
    why: str


@dataclass(frozen=True, slots=True)
class Undone:
    """What was brought back now, what could not be, and how much is left to do."""

    restored: int
    not_restored: Sequence[NotRestored]
    left: int


async def undo(mover: Mover, run: Run) -> Undone:
    """Bring back some of what a run has deleted, the last manifest first, then tags; what cannot be is left
    out, and is not tried again.

    Raises:
        ConflictError: the run has not ended.
        DeniedError: who undoes it may not delete there, or there is no room in its quota.
        NameUnknownError: the repository is gone.
    """
    if run.ended_at is None:
        raise ConflictError(f"retention run {run.id} has not ended")
    if not mover.brings_back:
        raise DeniedError("who may delete in a repository brings back what a run has deleted there")
    open_ones = (retention_items.c.run_id == run.id, retention_items.c.undone_at.is_(None))
    columns = (retention_items.c.id, retention_items.c.tag, retention_items.c.digest)
    query = (
        select(*columns)
        .where(*open_ones)
        .order_by(retention_items.c.tag.is_not(None), retention_items.c.id.desc())
        .limit(AT_ONCE)
    )
    database = mover.database
    async with database.read_once() as connection:
        rows = (await connection.execute(query)).all()
    mover = replace(mover, reason=f"undo of retention run {run.id}")
    failed: list[NotRestored] = []
    for row in rows:
        said = await _restore(mover, row)
        if said != RESTORED:
            failed.append(NotRestored(row.tag, row.digest, said))
        async with database.write() as connection:
            this = update(retention_items).where(retention_items.c.id == row.id)
            await connection.execute(this.values(undone_at=db_time(), undone=said))
    async with database.write() as connection:
        left = int((await connection.execute(select(func.count()).where(*open_ones))).scalar_one())
        if rows:
            told = {"run": run.id, "restored": len(rows) - len(failed), "left": left}
            await record(connection, "retention.undone", mover.repository.name, mover.actor, told)
    return Undone(len(rows) - len(failed), failed, left)


async def _restore(mover: Mover, row: Any) -> str:
    """What came of it."""
    digest = parse_digest(row.digest)
    try:
        if row.tag is None:
            await tagmoves.bring_back(mover, digest)
        elif not await _stands(mover, row.tag, row.digest):
            await tagmoves.restore(mover, row.tag, to=digest)
    except (ConflictError, ManifestUnknownError, ManifestBlobUnknownError, ManifestInvalidError) as error:
        return error.message
    return RESTORED


async def _stands(mover: Mover, tag: str, digest: str) -> bool:
    query = (
        select(tags.c.name)
        .join(manifests, manifests.c.id == tags.c.manifest_id)
        .where(tags.c.repository_id == mover.repository.id, tags.c.name == tag, manifests.c.digest == digest)
    )
    async with mover.database.read_once() as connection:
        return (await connection.execute(query)).first() is not None
