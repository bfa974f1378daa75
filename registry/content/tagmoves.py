"""Tags as a person sees them: where each stands, and back to where it stood before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.actor import Actor
from registry.content import repositories as repos
from registry.content import tags as tag_use
from registry.content.effects import Effects
from registry.content.repositories import Repository
from registry.db.content import manifests, tag_history, tags
from registry.db.engine import Database, move_epoch
from registry.errors import ConflictError, ManifestUnknownError, NameUnknownError
from registry.oci.digest import Digest, parse_digest


@dataclass(frozen=True, slots=True)
class TagDetails:
    """Where a tag stands, since when and by whom; ``media_type`` and ``size`` (bytes) of the manifest."""

    name: str
    digest: str
    media_type: str
    size: int
    updated_at: datetime
    updated_by: str

    @property
    def etag(self) -> str:
        """Where it stands."""
        return self.digest


async def list_tags(
    database: Database, repository: Repository, *, limit: int, after: str | None
) -> list[TagDetails]:
    """At most ``limit`` tags by name, those after ``after``."""
    query = _DETAILS.where(tags.c.repository_id == repository.id, tags.c.name > (after or ""))
    async with database.read() as connection:
        rows = await connection.execute(query.order_by(tags.c.name).limit(limit))
        return [TagDetails(**row._asdict()) for row in rows]


async def show(database: Database, repository: Repository, tag: str) -> TagDetails:
    """Where one tag stands.

    Raises:
        ManifestUnknownError: there is no such tag.
    """
    query = _DETAILS.where(tags.c.repository_id == repository.id, tags.c.name == tag)
    async with database.read() as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise ManifestUnknownError(f"there is no tag {tag} in {repository.name}")
    return TagDetails(**row._asdict())


async def roll_back(
    database: Database, repository: Repository, tag: str, *, to: Digest | None, actor: Actor, effects: Effects
) -> None:
    """Point the tag at where it stood before its last move, or at ``to``, one of where it ever stood. A tag
    that was deleted comes back.

    Raises:
        NameUnknownError: the repository is gone.
        ManifestUnknownError: the tag never was.
        ConflictError: it stood nowhere else, never at ``to``, or that image is gone.
    """
    async with database.write() as connection:
        if not await repos.lock(connection, repository.id):
            raise NameUnknownError(f"there is no repository {repository.name}")
        digest = await _target(connection, repository, tag, to)
        found = await connection.execute(
            select(manifests.c.id).where(
                manifests.c.repository_id == repository.id, manifests.c.digest == str(digest)
            )
        )
        manifest_id = found.scalar_one_or_none()
        if manifest_id is None:
            raise ConflictError(f"{digest} was deleted from {repository.name}; push it again first")
        await tag_use.move(connection, repository, tag, manifest_id, digest, actor=actor, action="rollback")
        await effects.tag_moved(connection, repository.id, manifest_id, actor)
        await move_epoch(connection, "content")


async def _target(connection: AsyncConnection, repository: Repository, tag: str, to: Digest | None) -> Digest:
    moves = (
        await connection.execute(
            select(tag_history.c.old_digest, tag_history.c.new_digest)
            .where(tag_history.c.repository_id == repository.id, tag_history.c.name == tag)
            .order_by(tag_history.c.id.desc())
        )
    ).all()
    if not moves:
        raise ManifestUnknownError(f"there is no tag {tag} in {repository.name}")
    if to is not None:
        if str(to) not in {move.new_digest for move in moves}:
            raise ConflictError(f"{repository.name}:{tag} never stood at {to}")
        return to
    if moves[0].old_digest is None:
        raise ConflictError(f"{repository.name}:{tag} stood nowhere before")
    return parse_digest(moves[0].old_digest)


_DETAILS = select(
    tags.c.name,
    manifests.c.digest,
    manifests.c.media_type,
    manifests.c.size,
    tags.c.updated_at,
    tags.c.updated_by,
).join(manifests, manifests.c.id == tags.c.manifest_id)
