"""Repositories as their administrators see them: made by hand, shown whole, deleted with what they hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.access import require, require_admin
from registry.auth.actor import Actor
from registry.auth.policy import Visibility
from registry.content import catalog, quotas
from registry.content import repositories as repos
from registry.content.repositories import Repository
from registry.contract.runspec import RunSpec
from registry.db.content import manifests, repositories, tags, upload_sessions
from registry.db.dialect import batches, insert_ignoring_conflict
from registry.db.engine import Database, move_epoch
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import ConflictError, NameUnknownError
from registry.oci.names import parse_repository_name
from registry.settings import Settings
from registry.storage.store import BlobStore

Gate = Literal["off", "warn", "enforce"]


@dataclass(frozen=True, slots=True)
class RepositoryDetails:
    """All that a repository's row says, and how much it holds."""

    name: str
    visibility: Visibility
    gate: Gate
    trial_on_push: bool
    image_spec_allowed: bool
    run_spec: dict[str, object] | None
    policy_version: int
    quota_bytes: int | None
    used_bytes: int
    created_at: datetime
    tags: int
    images: int


@dataclass(frozen=True, slots=True)
class RepositoryChange:
    """What to change; ``None`` leaves it. A run spec and a quota go by ``clear_…``."""

    visibility: Visibility | None = None
    gate: Gate | None = None
    trial_on_push: bool | None = None
    image_spec_allowed: bool | None = None
    run_spec: RunSpec | None = None
    clear_run_spec: bool = False
    quota_bytes: int | None = None
    clear_quota: bool = False

    def values(self) -> dict[str, Any]:
        """The columns that change."""
        values: dict[str, Any] = {
            "visibility": self.visibility,
            "gate": self.gate,
            "trial_on_push": self.trial_on_push,
            "image_spec_allowed": self.image_spec_allowed,
            "run_spec": self.run_spec.canonical() if self.run_spec else None,
            "quota_bytes": self.quota_bytes,
        }
        values = {column: value for column, value in values.items() if value is not None}
        cleared = {"run_spec": self.clear_run_spec, "quota_bytes": self.clear_quota}
        return values | {column: None for column, clear in cleared.items() if clear}


async def create(
    database: Database, settings: Settings, *, actor: Actor, name: str, wanted: RepositoryChange
) -> None:
    """Make an empty repository as ``wanted``, and for the rest with the settings' defaults.

    Raises:
        DeniedError: the actor is no administrator.
        NameInvalidError: outside the grammar.
        ConflictError: there is one.
    """
    require_admin(actor)
    parse_repository_name(name)
    values = {
        "name": name,
        "visibility": settings.visibility,
        "gate": settings.gate,
        "trial_on_push": settings.trial_on_push,
        "created_at": db_time(),
        **wanted.values(),
    }
    async with database.write() as connection:
        made = await connection.execute(
            insert_ignoring_conflict(connection, repositories, values).returning(repositories.c.id)
        )
        if made.first() is None:
            raise ConflictError(f"there is a repository {name} already")
        await record(connection, "repository.created", name, actor, {"visibility": values["visibility"]})
        await move_epoch(connection, "access")


async def find_readable(database: Database, *, actor: Actor, name: str) -> Repository:
    """The repository, if the actor may pull from it.

    Raises:
        UnauthorizedError, DeniedError: the actor may not, or would not if there were one.
        NameUnknownError: there is none, and the actor may know it.
    """
    repository = await repos.find(database, parse_repository_name(name))
    require(actor, "pull", name, repository.visibility if repository else None)
    if repository is None:
        raise NameUnknownError(f"there is no repository {name}")
    return repository


async def show(database: Database, *, actor: Actor, name: str) -> RepositoryDetails:
    """All about one repository.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError: as :func:`find_readable`.
    """
    repository = await find_readable(database, actor=actor, name=name)
    async with database.read() as connection:
        row = (await connection.execute(_DETAILS.where(repositories.c.id == repository.id))).one_or_none()
    if row is None:
        raise NameUnknownError(f"there is no repository {name}")
    return _details(row._asdict())


async def list_readable(
    database: Database, *, actor: Actor, limit: int, after: str | None
) -> list[RepositoryDetails]:
    """At most ``limit`` repositories that the actor may pull from, by name, those after ``after``."""
    names = await catalog.list_names(database, actor=actor, limit=limit, after=after)
    found: list[RepositoryDetails] = []
    async with database.read() as connection:
        for batch in batches(names):
            query = _DETAILS.where(repositories.c.name.in_(batch)).order_by(repositories.c.name)
            found += [_details(row._asdict()) for row in await connection.execute(query)]
    return found


async def delete(database: Database, blobs: BlobStore, *, actor: Actor, name: str) -> None:
    """Remove a repository with its tags, images, uploads and trials. Bytes that others share stay.

    Raises:
        DeniedError: the actor is no administrator.
        NameUnknownError: there is none.
    """
    require_admin(actor)
    async with database.write() as connection:
        repository = await repos.find_in(connection, parse_repository_name(name))
        if repository is None or not await repos.lock(connection, repository.id):
            raise NameUnknownError(f"there is no repository {name}")
        # Deleted, not looked up: an upload that is becoming a blob right now is no longer among them.
        uploads = await _end_uploads(connection, repository.id)
        await connection.execute(sql_delete(repositories).where(repositories.c.id == repository.id))
        await record(connection, "repository.deleted", name, actor, {})
        await move_epoch(connection, "content", "access", "gate")
    for locator in uploads:
        await blobs.delete(locator)


async def _end_uploads(connection: AsyncConnection, repository_id: int) -> list[str]:
    ended = await connection.execute(
        sql_delete(upload_sessions)
        .where(upload_sessions.c.repository_id == repository_id)
        .returning(upload_sessions.c.locator)
    )
    return [str(row.locator) for row in ended]


_DETAILS = select(
    repositories.c.name,
    repositories.c.visibility,
    repositories.c.gate,
    repositories.c.trial_on_push,
    repositories.c.image_spec_allowed,
    repositories.c.run_spec,
    repositories.c.policy_version,
    repositories.c.quota_bytes,
    repositories.c.created_at,
    quotas.used_bytes(repositories.c.id).label("used_bytes"),
    select(func.count())
    .where(tags.c.repository_id == repositories.c.id)
    .correlate(repositories)
    .scalar_subquery()
    .label("tags"),
    select(func.count())
    .where(manifests.c.repository_id == repositories.c.id)
    .correlate(repositories)
    .scalar_subquery()
    .label("images"),
)


def _details(row: dict[str, Any]) -> RepositoryDetails:
    run_spec = None if row["run_spec"] is None else json.loads(row["run_spec"])
    return RepositoryDetails(**{**row, "run_spec": run_spec})
