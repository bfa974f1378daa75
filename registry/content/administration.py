"""Repositories as their administrators see them: made by hand, shown whole, deleted with what they hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.access import require_admin, require_writable
from registry.auth.actor import Actor
from registry.auth.bindings import parse_label
from registry.auth.owners import require_or_tell
from registry.auth.places import Place, parse_place
from registry.auth.policy import Action, Visibility, decide, may_administer, namespace_of
from registry.auth.tombstones import bury
from registry.content import blocks, catalog, quotas
from registry.content import repositories as repos
from registry.content.effects import Effects
from registry.content.repositories import Repository, TurnedBad
from registry.content.tagpatterns import parse_tag_patterns, patterns_of, stored_patterns
from registry.contract.runspec import RunSpec
from registry.db.content import manifests, repositories, upload_sessions
from registry.db.dialect import batches
from registry.db.engine import Database, hold_epochs
from registry.db.events import events
from registry.db.outbox import record
from registry.db.usage import repository_usage, used
from registry.errors import ConflictError, NameUnknownError
from registry.events.webhooks import hold_all_of
from registry.oci.conditions import NO_CONDITIONS, Conditions, entity_tag
from registry.oci.names import parse_repository_name
from registry.settings import Gate, Settings
from registry.storage.store import BlobStore


@dataclass(frozen=True, slots=True)
class RepositoryDetails:
    """All that a repository's row says, and how much it holds."""

    name: str
    visibility: Visibility
    gate: Gate
    trial_on_push: bool
    trial_tags: tuple[str, ...] | None
    scan: bool
    image_spec_allowed: bool
    run_spec: dict[str, object] | None
    policy_version: int
    worker_label: str | None
    turned_bad: TurnedBad | None
    turned_bad_days: int | None
    trial_keep_days: int | None
    log_keep_bytes: int | None
    history_keep_days: int | None
    history_keep_lines: int | None
    quota_bytes: int | None
    used_bytes: int
    created_at: datetime
    tags: int
    images: int

    @property
    def etag(self) -> str:
        """The entity tag of what :class:`RepositoryChange` changes."""
        return settings_tag(self, self.run_spec, self.trial_tags)


@dataclass(frozen=True, slots=True)
class RepositoryChange:
    """What to change; ``None`` leaves it. What may be unset goes by ``clear_…``."""

    visibility: Visibility | None = None
    gate: Gate | None = None
    trial_on_push: bool | None = None
    trial_tags: Sequence[str] | None = None
    clear_trial_tags: bool = False
    scan: bool | None = None
    image_spec_allowed: bool | None = None
    run_spec: RunSpec | None = None
    clear_run_spec: bool = False
    worker_label: str | None = None
    clear_worker_label: bool = False
    turned_bad: TurnedBad | None = None
    clear_turned_bad: bool = False
    turned_bad_days: int | None = None
    clear_turned_bad_days: bool = False
    trial_keep_days: int | None = None
    clear_trial_keep_days: bool = False
    log_keep_bytes: int | None = None
    clear_log_keep_bytes: bool = False
    history_keep_days: int | None = None
    clear_history_keep_days: bool = False
    history_keep_lines: int | None = None
    clear_history_keep_lines: bool = False
    quota_bytes: int | None = None
    clear_quota: bool = False

    def values(self) -> dict[str, Any]:
        """The columns that change.

        Raises:
            RequestInvalidError: a label or a pattern that is none.
        """
        tags_tried = None if self.trial_tags is None else parse_tag_patterns(self.trial_tags)
        values: dict[str, Any] = {
            "visibility": self.visibility,
            "gate": self.gate,
            "trial_on_push": self.trial_on_push,
            "trial_tags": None if tags_tried is None else stored_patterns(tags_tried),
            "scan": self.scan,
            "image_spec_allowed": self.image_spec_allowed,
            "run_spec": self.run_spec.canonical() if self.run_spec else None,
            "worker_label": None if self.worker_label is None else parse_label(self.worker_label),
            "turned_bad": self.turned_bad,
            "turned_bad_days": self.turned_bad_days,
            "trial_keep_days": self.trial_keep_days,
            "log_keep_bytes": self.log_keep_bytes,
            "history_keep_days": self.history_keep_days,
            "history_keep_lines": self.history_keep_lines,
            "quota_bytes": self.quota_bytes,
        }
        values = {column: value for column, value in values.items() if value is not None}
        cleared = {
            "trial_tags": self.clear_trial_tags,
            "run_spec": self.clear_run_spec,
            "worker_label": self.clear_worker_label,
            "turned_bad": self.clear_turned_bad,
            "turned_bad_days": self.clear_turned_bad_days,
            "trial_keep_days": self.clear_trial_keep_days,
            "log_keep_bytes": self.clear_log_keep_bytes,
            "history_keep_days": self.clear_history_keep_days,
            "history_keep_lines": self.clear_history_keep_lines,
            "quota_bytes": self.clear_quota,
        }
        return values | {column: None for column, clear in cleared.items() if clear}


OPERATORS = frozenset(
    {"quota_bytes", "trial_keep_days", "log_keep_bytes", "history_keep_days", "history_keep_lines"}
)
"""What only administrators change."""


async def create(
    database: Database, settings: Settings, *, actor: Actor, name: str, wanted: RepositoryChange
) -> None:
    """Make an empty repository as ``wanted``, and for the rest with the settings' defaults.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of its namespace, or the registry is
            read-only.
        NameInvalidError: outside the grammar.
        ConflictError: there is one.
    """
    parse_repository_name(name)
    await require_or_tell(database, actor, "configure", name, None)
    require_operator_right(actor, wanted)
    require_writable(read_only=settings.read_only)
    async with database.write() as connection:
        defaults = await repos.defaults_for(connection, name, settings)
        given = {**defaults.columns, **wanted.values()}
        if not await repos.insert(connection, name, given, settings=settings, actor=actor):
            raise ConflictError(f"there is a repository {name} already")


def require_operator_right(actor: Actor, wanted: RepositoryChange) -> None:
    """A quota limits those who manage a repository, and what is kept of their trials and their tags' history
    is room or evidence of the operator's, so that neither is for them to set.

    Raises:
        UnauthorizedError, DeniedError: it changes one of these, and the actor is no administrator.
    """
    if OPERATORS & wanted.values().keys():
        require_admin(actor)


async def find(database: Database, *, actor: Actor, action: Action, name: str) -> Repository:
    """The repository, if the actor may do ``action`` there.

    Raises:
        UnauthorizedError, DeniedError: the actor may not, or would not if there were one.
        NameUnknownError: there is none, and the actor may know it.
    """
    repository = await repos.find(database, parse_repository_name(name))
    await require_or_tell(database, actor, action, name, repository.visibility if repository else None)
    if repository is None:
        raise _unknown(name)
    return repository


async def require_place(database: Database, *, actor: Actor, action: Action, on: str) -> Place:
    """The repository, or with a slash at its end the namespace, if the actor may do ``action`` there. It may
    be gone when it is looked for.

    Raises:
        NameInvalidError: outside the grammar.
        UnauthorizedError, DeniedError, NameUnknownError: as :func:`find`.
    """
    return (await find_at(database, actor=actor, action=action, on=on))[0]


async def find_at(
    database: Database, *, actor: Actor, action: Action, on: str
) -> tuple[Place, Repository | None]:
    """As :func:`require_place`, with the repository; ``None``: it is a namespace, which may not be there."""
    place = parse_place(on)
    if not place.is_namespace:
        return place, await find(database, actor=actor, action=action, name=place.name)
    await require_or_tell(database, actor, action, place.key, None)
    return place, None


async def show(database: Database, *, actor: Actor, name: str) -> RepositoryDetails:
    """All about one repository, for those who may pull from it or change its settings.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError: as :func:`find`.
    """
    configures = decide(actor, "configure", name, None).allowed
    repository = await find(database, actor=actor, action="configure" if configures else "pull", name=name)
    async with database.read() as connection:
        row = (await connection.execute(_DETAILS.where(repositories.c.id == repository.id))).one_or_none()
    if row is None:
        raise _unknown(name)
    return _details(row._asdict())


async def list_readable(
    database: Database, *, actor: Actor, limit: int, after: str | None, namespace: str | None = None
) -> list[RepositoryDetails]:
    """At most ``limit`` repositories that the actor may pull from, by name, those after ``after``; of a
    ``namespace``: those below it. Whoever manages the registry is shown all.

    Raises:
        NameInvalidError: ``namespace`` is outside the grammar.
    """
    if namespace is not None:
        parse_repository_name(namespace)
    if may_administer(actor):
        actor = replace(actor, scopes=None)
    names = await catalog.list_names(database, actor=actor, limit=limit, after=after, namespace=namespace)
    found: list[RepositoryDetails] = []
    async with database.read() as connection:
        for batch in batches(names):
            query = _DETAILS.where(repositories.c.name.in_(batch)).order_by(repositories.c.name)
            found += [_details(row._asdict()) for row in await connection.execute(query)]
    return found


async def delete(
    database: Database,
    blobs: BlobStore,
    settings: Settings,
    *,
    actor: Actor,
    name: str,
    conditions: Conditions = NO_CONDITIONS,
) -> None:
    """Remove a repository with its tags, images, uploads and trials. Bytes that others share stay.

    Raises:
        UnauthorizedError, DeniedError: the actor is no owner, or the registry is read-only.
        PreconditionFailedError: ``conditions`` do not hold.
        NameUnknownError: there is none.
    """
    repository = await find(database, actor=actor, action="administer", name=name)
    require_writable(read_only=settings.read_only)
    if not await remove(database, blobs, repository, actor=actor, conditions=conditions):
        raise _unknown(name)


async def remove(
    database: Database,
    blobs: BlobStore,
    repository: Repository,
    *,
    actor: Actor,
    conditions: Conditions = NO_CONDITIONS,
) -> bool:
    """As :func:`delete`, for an actor whose right has been asked for. False: there is none (any more).

    Raises:
        PreconditionFailedError: ``conditions`` do not hold.
    """
    async with database.write() as connection:
        uploads = await remove_in(connection, repository, actor=actor, conditions=conditions)
    for locator in uploads or ():
        await blobs.delete(locator)
    return uploads is not None


async def remove_in(
    connection: AsyncConnection,
    repository: Repository,
    *,
    actor: Actor,
    conditions: Conditions = NO_CONDITIONS,
) -> Sequence[str] | None:
    """As :func:`remove`, in the caller's transaction; the locators of uploads that have ended with it, for
    the caller to delete once it is over. ``None``: there is none (any more).

    Raises:
        PreconditionFailedError: ``conditions`` do not hold.
    """
    this = (repositories.c.id == repository.id, repositories.c.name == repository.name)
    held = (await connection.execute(select(repositories).where(*this).with_for_update())).first()
    if held is None:
        return None
    conditions.require(tag_of_row(held), f"repository {repository.name}")
    # Deleted, not looked up: an upload that is becoming a blob right now is no longer among them.
    uploads = await _end_uploads(connection, repository.id)
    await hold_all_of(connection, Place(repository.name, is_namespace=False))
    await _hold_images(connection, repository.id)
    await connection.execute(sql_delete(repositories).where(*this))
    await record(connection, "repository.deleted", repository.name, actor, {})
    await hold_epochs(connection, "content", "access", "gate")
    await bury(connection, repository.name)
    return uploads


async def _hold_images(connection: AsyncConnection, repository_id: int) -> None:
    """Lock the images that are about to go with a repository, in the order in which others hold several: a
    cascade has another, and would wait for those who wait for it."""
    held = select(manifests.c.id).where(manifests.c.repository_id == repository_id).order_by(manifests.c.id)
    await connection.execute(select(func.count()).select_from(held.with_for_update().subquery()))


async def move(
    database: Database, settings: Settings, *, actor: Actor, name: str, to: str, effects: Effects
) -> None:
    """Give a repository another name, in its namespace or in another one.

    Tags, history, images, trials, roles and events go along; open uploads go on under the new name, and a
    worker that is still pulling tries again. Nothing leads from the old name to the new one, and what named
    the old one opens nothing any more.

    Raises:
        UnauthorizedError, DeniedError: the actor is no owner of both ends (within a namespace: no maintainer
            of it), or the registry is read-only.
        NameInvalidError: ``to`` is outside the grammar.
        NameUnknownError: there is no such repository.
        ConflictError: there is one named ``to``.
        DeniedError: a namespace that it comes into would hold more than its quota.
    """
    parse_repository_name(to)
    repository = await find(database, actor=actor, action="administer", name=name)
    stays = namespace_of(name) == namespace_of(to)
    await require_or_tell(database, actor, "configure" if stays else "administer", to, None)
    require_writable(read_only=settings.read_only)
    try:
        async with database.write() as connection:
            await repos.require_namespace(connection, namespace_of(to), actor=actor)
            moved = await connection.execute(
                update(repositories)
                .where(repositories.c.id == repository.id, repositories.c.name == name)
                .values(name=to)
            )
            if moved.rowcount == 0:
                raise _unknown(name)
            # Else they would be taken for those of whoever gets the old name.
            await connection.execute(update(events).where(events.c.repository == name).values(repository=to))
            await record(connection, "repository.renamed", to, actor, {"name": [name, to]})
            moved_here = repositories.c.id == repository.id
            await effects.repositories_renamed(connection, moved_here)
            await quotas.enforce_moved(connection, old=name, new=Place(to, is_namespace=False))
            await hold_epochs(connection, "content", "access", "gate")
            await blocks.catch_all(connection, moved_here, effects.images_blocked)
            await effects.repositories_moved(connection, moved_here)
            await bury(connection, name)
    except IntegrityError:
        raise ConflictError(f"there is a repository {to} already") from None


def settings_tag(settings: Any, run_spec: object, trial_tags: Sequence[str] | None) -> str:
    """The entity tag of a repository's settings, from its details or its row."""
    given = [settings.turned_bad, settings.turned_bad_days]
    tags_tried = () if trial_tags is None else ({"trial_tags": trial_tags},)
    kept = [settings.trial_keep_days, settings.log_keep_bytes]
    history = [settings.history_keep_days, settings.history_keep_lines]
    return entity_tag(
        settings.created_at,
        settings.visibility,
        settings.gate,
        settings.trial_on_push,
        settings.image_spec_allowed,
        settings.worker_label,
        settings.quota_bytes,
        run_spec,
        # As a version knows it that does not have these, where nothing is said of them.
        *(given if any(each is not None for each in given) else ()),
        *tags_tried,
        *(() if settings.scan else ("unscanned",)),
        *(("kept", *kept) if any(each is not None for each in kept) else ()),
        *(("history", *history) if any(each is not None for each in history) else ()),
    )


def tag_of_row(row: Row[Any]) -> str:
    """As :func:`settings_tag`, of a row."""
    run_spec = None if row.run_spec is None else json.loads(row.run_spec)
    return settings_tag(row, run_spec, patterns_of(row.trial_tags))


def _unknown(name: str) -> NameUnknownError:
    return NameUnknownError(f"there is no repository {name}")


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
    repositories.c.trial_tags,
    repositories.c.scan,
    repositories.c.image_spec_allowed,
    repositories.c.run_spec,
    repositories.c.policy_version,
    repositories.c.worker_label,
    repositories.c.turned_bad,
    repositories.c.turned_bad_days,
    repositories.c.trial_keep_days,
    repositories.c.log_keep_bytes,
    repositories.c.history_keep_days,
    repositories.c.history_keep_lines,
    repositories.c.quota_bytes,
    repositories.c.created_at,
    used("bytes").label("used_bytes"),
    used("tags").label("tags"),
    select(func.count())
    .where(manifests.c.repository_id == repositories.c.id)
    .correlate(repositories)
    .scalar_subquery()
    .label("images"),
).join(repository_usage, repository_usage.c.repository_id == repositories.c.id)


def _details(row: dict[str, Any]) -> RepositoryDetails:
    run_spec = None if row["run_spec"] is None else json.loads(row["run_spec"])
    return RepositoryDetails(**{**row, "run_spec": run_spec, "trial_tags": patterns_of(row["trial_tags"])})
