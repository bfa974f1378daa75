"""Blocking an image by hand, above every verdict and every gate."""

from __future__ import annotations

from sqlalchemy import update

from registry.auth.actor import Actor
from registry.content import repositories as repos
from registry.db.content import manifests
from registry.db.engine import Database, move_epoch
from registry.db.eventkinds import EventKind
from registry.db.outbox import record
from registry.errors import ManifestUnknownError
from registry.trials.attesting import attest_states
from registry.trials.states import REASON_MAX


async def set_block(
    database: Database, *, repository_id: int, repository: str, digest: str, reason: str | None, actor: Actor
) -> None:
    """Block an image with a reason that everybody refused will read, or with ``None`` let it be.

    Raises:
        ManifestUnknownError: the repository has no such manifest.
    """
    kept = None if reason is None else reason[:REASON_MAX]
    async with database.write() as connection:
        await repos.lock(connection, repository_id)
        done = await connection.execute(
            update(manifests)
            .where(manifests.c.repository_id == repository_id, manifests.c.digest == digest)
            .values(blocked_reason=kept)
        )
        if done.rowcount == 0:
            raise ManifestUnknownError(f"{repository} has no manifest {digest}")
        kind: EventKind = "image.unblocked" if reason is None else "image.blocked"
        await record(connection, kind, repository, actor, {"digest": digest, "reason": kept})
        await attest_states(connection, repository_id, [digest])
        await move_epoch(connection, "gate")
