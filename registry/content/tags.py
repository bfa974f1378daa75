"""Tags: names that move, and the history of their moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import delete as sql_delete
from sqlalchemy import insert as sql_insert
from sqlalchemy import select

from registry.auth.actor import stored_workload
from registry.content import repositories as repos
from registry.db.content import manifests, tag_history, tags
from registry.db.dialect import insert
from registry.db.engine import move_epoch
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import DeniedError, ManifestUnknownError, NameUnknownError
from registry.oci.conditions import NO_CONDITIONS

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor, Workload
    from registry.content.repositories import Repository
    from registry.db.engine import Database
    from registry.oci.conditions import Conditions
    from registry.oci.digest import Digest

TagAction = Literal["push", "delete", "rollback", "promotion"]


@dataclass(frozen=True, slots=True)
class TagMove:
    """One line of a tag's history, ``None`` standing for no manifest; ``id`` rises with each. ``reason``
    names the promotion that did it, if one did."""

    id: int
    action: str
    old_digest: str | None
    new_digest: str | None
    actor: str
    workload: Workload | None
    reason: str | None
    at: datetime


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


async def history(
    database: Database, repository: Repository, tag: str, *, limit: int, before: int | None = None
) -> list[TagMove]:
    """The tag's moves, newest first, at most ``limit``, those before the id ``before``; also of a tag that is
    no more."""
    columns = tag_history.c
    query = select(
        columns.id,
        columns.action,
        columns.old_digest,
        columns.new_digest,
        columns.actor,
        columns.workload,
        columns.reason,
        columns.at,
    ).where(columns.repository_id == repository.id, columns.name == tag)
    if before is not None:
        query = query.where(columns.id < before)
    async with database.read_once() as connection:
        rows = await connection.execute(query.order_by(columns.id.desc()).limit(limit))
        return [TagMove(**{**row._asdict(), "workload": stored_workload(row.workload)}) for row in rows]


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
) -> int | None:
    """Point the tag at the manifest, with its history and event, in the caller's transaction; returns the id
    of the line in its history.

    The caller holds the repository's lock. A tag that already stands there is left alone: ``None``.

    Raises:
        DeniedError: it is the registry's own word about an image, which goes when there is another.
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
    values = {"manifest_id": manifest_id, "updated_at": db_time(), "updated_by": actor.shown}
    await connection.execute(
        insert(connection, tags)
        .values(repository_id=repository.id, name=tag, **values)
        .on_conflict_do_update(index_elements=["repository_id", "name"], set_=values)
    )
    line = await _remember(
        connection, repository, tag, action, actor=actor, old=old_digest, new=str(digest), reason=reason
    )
    data = {"tag": tag, "old_digest": old_digest, "new_digest": str(digest)}
    await record(connection, "tag.moved", repository.name, actor, data)
    return line


async def delete(
    database: Database,
    repository: Repository | None,
    tag: str,
    *,
    conditions: Conditions = NO_CONDITIONS,
    actor: Actor,
) -> None:
    """Remove the tag and nothing else.

    Raises:
        PreconditionFailedError: one of the conditions does not hold.
        ManifestUnknownError: there is no such tag.
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
        await drop(connection, repository, tag, digest, actor=actor)
        await move_epoch(connection, "content")


async def delete_all_of(
    connection: AsyncConnection, repository: Repository, manifest_id: int, digest: Digest, *, actor: Actor
) -> None:
    """Remove every tag of a manifest that goes, in the caller's transaction."""
    rows = await connection.execute(
        select(tags.c.name).where(tags.c.repository_id == repository.id, tags.c.manifest_id == manifest_id)
    )
    for row in rows.all():
        await drop(connection, repository, row.name, str(digest), actor=actor)


def _unknown(tag: str) -> ManifestUnknownError:
    return ManifestUnknownError(f"tag {tag} is not in this repository", detail={"reference": tag})


async def drop(
    connection: AsyncConnection,
    repository: Repository,
    tag: str,
    digest: str,
    *,
    actor: Actor,
    reason: str | None = None,
) -> None:
    """Remove a tag that stands at ``digest``, in the caller's transaction."""
    await connection.execute(
        sql_delete(tags).where(tags.c.repository_id == repository.id, tags.c.name == tag)
    )
    await _remember(connection, repository, tag, "delete", actor=actor, old=digest, new=None, reason=reason)
    await record(connection, "tag.deleted", repository.name, actor, {"tag": tag, "old_digest": digest})


async def _remember(
    connection: AsyncConnection,
    repository: Repository,
    tag: str,
    action: TagAction,
    *,
    actor: Actor,
    old: str | None,
    new: str | None,
    reason: str | None = None,
) -> int:
    made = await connection.execute(
        sql_insert(tag_history)
        .values(
            repository_id=repository.id,
            name=tag,
            action=action,
            old_digest=old,
            new_digest=new,
            actor=actor.shown,
            address=actor.address,
            workload=actor.workload_text,
            reason=reason,
            at=db_time(),
        )
        .returning(tag_history.c.id)
    )
    return int(made.scalar_one())
