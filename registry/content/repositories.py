"""Repositories: found by name, made by the first push to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import bindparam, select

from registry.db.content import repositories
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import move_epoch
from registry.db.outbox import record
from registry.db.types import db_time

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.auth.policy import Visibility
    from registry.db.engine import Database
    from registry.settings import Settings


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as its row says."""

    id: int
    name: str
    visibility: Visibility
    gate: str
    quota_bytes: int | None


COLUMNS = select(
    repositories.c.id,
    repositories.c.name,
    repositories.c.visibility,
    repositories.c.gate,
    repositories.c.quota_bytes,
)

# Put together once: that takes longer than the query itself.
_BY_NAME = COLUMNS.where(repositories.c.name == bindparam("name"))


async def find(database: Database, name: str) -> Repository | None:
    """The repository of that name, if there is one."""
    async with database.read_once() as connection:
        return await find_in(connection, name)


async def find_in(connection: AsyncConnection, name: str) -> Repository | None:
    """As :func:`find`, inside a transaction."""
    row = (await connection.execute(_BY_NAME, {"name": name})).first()
    return None if row is None else from_row(row)


async def find_or_create(
    connection: AsyncConnection, name: str, *, settings: Settings, actor: Actor
) -> Repository:
    """The repository of that name, made with the default visibility and gate if this is the first push.

    It cannot be deleted before the caller's transaction ends.
    """
    held = COLUMNS.where(repositories.c.name == name).with_for_update(read=True, key_share=True)
    row = (await connection.execute(held)).first()
    if row is not None:
        return from_row(row)
    values = {
        "name": name,
        "visibility": settings.visibility,
        "gate": settings.gate,
        "trial_on_push": settings.trial_on_push,
        "created_at": db_time(),
    }
    made = await connection.execute(
        insert_ignoring_conflict(connection, repositories, values).returning(repositories.c.id)
    )
    if made.first() is not None:
        await record(connection, "repository.created", name, actor, {"visibility": settings.visibility})
        await move_epoch(connection, "access")
    return from_row((await connection.execute(held)).one())


async def lock(connection: AsyncConnection, repository_id: int) -> bool:
    """Let no other transaction change this repository's manifests, tags and trials until this one ends.

    Uploads go on beside it: what refers to a repository takes a weaker lock. False: it is gone.
    """
    held = await connection.execute(
        select(repositories.c.id).where(repositories.c.id == repository_id).with_for_update(key_share=True)
    )
    return held.first() is not None


def from_row(row: Row[Any, Any, Any, Any, Any]) -> Repository:
    """The value of a row of :data:`COLUMNS`."""
    return Repository(row.id, row.name, cast("Visibility", row.visibility), row.gate, row.quota_bytes)
