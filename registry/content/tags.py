"""Tags: names that move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select, update
from sqlalchemy import delete as sql_delete

from registry.content import repositories as repos
from registry.content import taghistory
from registry.content.immutability import require_movable, require_mutable
from registry.db.content import manifests, tags
from registry.db.dialect import insert
from registry.db.engine import move_epoch
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import DeniedError, ManifestUnknownError, NameUnknownError
from registry.oci.conditions import NO_CONDITIONS
from registry.oci.versions import version_key

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.content.repositories import Repository
    from registry.db.content import TagAction
    from registry.db.engine import Database
    from registry.oci.conditions import Conditions
    from registry.oci.digest import Digest

_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Moved:
    """A move of a tag: the ``line`` of its history, and whether it was made by that."""

    line: int
    is_new: bool


async def list_names(
    database: Database, repository: Repository | None, *, limit: int, after: str | None
) -> list[str]:
    """At most ``limit`` tags in bytewise order, those after ``after``, which need not exist.

    Raises:
        NameUnknownError: there is no such repository.
    """
    if repository is None:
        raise NameUnknownError("there is no such repository")
    query = select(tags.c.name).where(tags.c.repository_id == repository.id)
    if after is not None:
        query = query.where(tags.c.name > after)
    async with database.read_once() as connection:
        rows = await connection.execute(query.order_by(tags.c.name).limit(limit))
        return [row.name for row in rows]


async def move(
    connection: AsyncConnection,
    repository: Repository,
    tag: str,
    manifest_id: int,
    digest: Digest,
    *,
    actor: Actor,
    action: TagAction = "push",
    reason: str | None = None,
) -> Moved | None:
    """Point the tag at the manifest, with its history and event, in the caller's transaction, which holds
    what is new against the quotas (:func:`registry.content.quotas.enforce`).

    The caller holds the repository's lock. A tag that already stands there is left alone: ``None``.

    Raises:
        DeniedError: it is the registry's own word about an image, which goes when there is another; or the
            tag is immutable, or the actor's token moves none.
    """
    before = manifests.alias("before")
    standing = (
        select(before.c.digest)
        .join(tags, tags.c.manifest_id == before.c.id)
        .where(tags.c.repository_id == repository.id, tags.c.name == tag)
        .scalar_subquery()
    )
    this = select(manifests.c.attestation_id, standing).where(manifests.c.id == manifest_id)
    attestation_id, old_digest = (await connection.execute(this)).one()
    if old_digest == str(digest):
        return None
    if attestation_id is not None:
        raise DeniedError(f"{digest} is what the registry attests of an image, and no tag can name it")
    if old_digest is not None:
        await require_movable(connection, repository, tag, old_digest, actor=actor)
    values = {
        "manifest_id": manifest_id,
        "updated_at": db_time(),
        "updated_by": actor.shown,
        "version_key": version_key(tag),
    }
    await connection.execute(
        insert(connection, tags)
        .values(repository_id=repository.id, name=tag, **values)
        .on_conflict_do_update(index_elements=["repository_id", "name"], set_=values)
    )
    line = await taghistory.remember(
        connection, repository, tag, action, actor=actor, old=old_digest, new=str(digest), reason=reason
    )
    data = {"tag": tag, "old_digest": old_digest, "new_digest": str(digest)}
    await record(connection, "tag.moved", repository.name, actor, data)
    return Moved(line, is_new=old_digest is None)


async def delete(
    database: Database,
    repository: Repository | None,
    tag: str,
    *,
    conditions: Conditions = NO_CONDITIONS,
    actor: Actor,
    reason: str | None = None,
    dry_run: bool = False,
) -> None:
    """Remove the tag and nothing else; with ``dry_run`` only see that it could be.

    Raises:
        PreconditionFailedError: one of the conditions does not hold.
        ManifestUnknownError: there is no such tag.
        DeniedError: it is immutable.
    """
    if repository is None:
        raise _unknown(tag)
    async with database.write() as connection:
        await repos.lock(connection, repository.id)
        found = await connection.execute(
            select(manifests.c.digest)
            .join(tags, tags.c.manifest_id == manifests.c.id)
            .where(tags.c.repository_id == repository.id, tags.c.name == tag)
        )
        digest = found.scalar()
        if digest is None:
            raise _unknown(tag)
        conditions.require(digest, f"tag {tag}")
        if dry_run:
            await require_mutable(connection, repository, tag, digest)
            return
        await drop(connection, repository, tag, digest, actor=actor, reason=reason)
        await move_epoch(connection, "content")


async def delete_all_of(
    connection: AsyncConnection, repository: Repository, manifest_id: int, digest: Digest, *, actor: Actor
) -> None:
    """Remove every tag of a manifest that goes, in the caller's transaction, which has asked whether one
    stands for good."""
    rows = await connection.execute(
        select(tags.c.name).where(tags.c.repository_id == repository.id, tags.c.manifest_id == manifest_id)
    )
    for row in rows.all():
        await _remove(connection, repository, row.name, str(digest), actor=actor)


def _unknown(tag: str) -> ManifestUnknownError:
    return ManifestUnknownError(f"tag {tag} is not in this repository", detail={"reference": tag})


async def drop(
    connection: AsyncConnection,
    repository: Repository,
    tag: str,
    digest: str,
    *,
    actor: Actor,
    action: TagAction = "delete",
    reason: str | None = None,
) -> None:
    """Remove a tag that stands at ``digest``, in the caller's transaction.

    Raises:
        DeniedError: it is immutable.
    """
    await require_mutable(connection, repository, tag, digest)
    await _remove(connection, repository, tag, digest, actor=actor, action=action, reason=reason)


async def _remove(
    connection: AsyncConnection,
    repository: Repository,
    tag: str,
    digest: str,
    *,
    actor: Actor,
    action: TagAction = "delete",
    reason: str | None = None,
) -> None:
    await connection.execute(
        sql_delete(tags).where(tags.c.repository_id == repository.id, tags.c.name == tag)
    )
    await taghistory.remember(
        connection, repository, tag, action, actor=actor, old=digest, new=None, reason=reason
    )
    await record(connection, "tag.deleted", repository.name, actor, {"tag": tag, "old_digest": digest})


async def learn_versions(database: Database) -> int:
    """Have the tags ordered as versions that an older version has written; how many there were."""
    query = select(tags.c.repository_id, tags.c.name).where(tags.c.version_key == "").limit(_AT_ONCE)
    learnt = 0
    while True:
        async with database.read_once() as connection:
            rows = (await connection.execute(query)).all()
        if not rows:
            return learnt
        changed = [
            {"its_repository": row.repository_id, "its_name": row.name, "key": version_key(row.name)}
            for row in rows
        ]
        this = (
            tags.c.repository_id == bindparam("its_repository"),
            tags.c.name == bindparam("its_name"),
        )
        async with database.write() as connection:
            await connection.execute(update(tags).where(*this).values(version_key=bindparam("key")), changed)
        learnt += len(rows)
