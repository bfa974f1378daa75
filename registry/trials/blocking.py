"""Blocking an image by hand, above every verdict and every gate."""

from __future__ import annotations

import json

from sqlalchemy import insert, update

from registry.db.content import manifests
from registry.db.engine import Database, move_epoch
from registry.db.events import events
from registry.db.types import db_time
from registry.errors import ManifestUnknownError
from registry.trials.states import REASON_MAX


async def set_block(
    database: Database, *, repository_id: int, repository: str, digest: str, reason: str | None, actor: str
) -> None:
    """Block an image with a reason that everybody refused will read, or with ``None`` let it be.

    Raises:
        ManifestUnknownError: the repository has no such manifest.
    """
    kept = None if reason is None else reason[:REASON_MAX]
    async with database.write() as connection:
        done = await connection.execute(
            update(manifests)
            .where(manifests.c.repository_id == repository_id, manifests.c.digest == digest)
            .values(blocked_reason=kept)
        )
        if done.rowcount == 0:
            raise ManifestUnknownError(f"{repository} has no manifest {digest}")
        await connection.execute(
            insert(events).values(
                kind="image.unblocked" if reason is None else "image.blocked",
                repository=repository,
                actor=actor,
                data=json.dumps({"digest": digest, "reason": kept}),
                at=db_time(),
            )
        )
        await move_epoch(connection, "gate")
