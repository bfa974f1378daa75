"""Namespaces: the paths before the last part of repositories' names, where roles and defaults are given.

A role on one holds for everything below it, and so does what one says of new repositories, unless a nearer
one says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, literal, select, update
from sqlalchemy.exc import IntegrityError

from registry.auth.access import require_admin, require_writable
from registry.auth.actor import Actor
from registry.auth.owners import require_or_tell
from registry.auth.places import Place
from registry.auth.policy import HIDDEN, Visibility, decide, may_administer, pull_patterns
from registry.auth.tombstones import bury
from registry.content import administration, blocks, quotas
from registry.content import repositories as repos
from registry.content.nameranges import NameRange, ranges, read_in_order
from registry.content.repositories import insert_namespace
from registry.db.access import namespaces
from registry.db.accounts import accounts
from registry.db.content import repositories
from registry.db.dialect import batches
from registry.db.engine import Database, hold_epochs, move_epoch
from registry.db.events import events
from registry.db.outbox import record
from registry.db.trials import trial_seconds
from registry.errors import ConflictError, NotFoundError
from registry.events.webhooks import hold_all_of
from registry.oci.conditions import NO_CONDITIONS, Conditions, entity_tag
from registry.oci.names import parse_repository_name
from registry.settings import Gate, Settings
from registry.storage.store import BlobStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Column, Row, Select, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.content.effects import Effects

SHOWN_MAX = 10
COUNTED_MAX = 1000
_DELETED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Namespace:
    """What a namespace says of new repositories, of who grants waivers in all of them, and how much is tried
    there; ``None``: what one above says, else the settings."""

    name: str
    visibility: Visibility | None
    create_on_push: bool | None
    gate: Gate | None
    scan: bool | None
    waivers_by_two: bool | None
    promotions_by_two: bool | None
    trial_queue_max: int | None
    trial_seconds_per_hour: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NamespaceDetails:
    """A namespace and what is below it: how many repositories and namespaces, counted to 1000, and the names
    of the first ten."""

    name: str
    visibility: Visibility | None
    create_on_push: bool | None
    gate: Gate | None
    scan: bool | None
    waivers_by_two: bool | None
    promotions_by_two: bool | None
    trial_queue_max: int | None
    trial_seconds_per_hour: int | None
    created_at: datetime
    repositories: int
    namespaces: int
    first_repositories: tuple[str, ...]

    @property
    def etag(self) -> str:
        """The entity tag of what :func:`change` changes."""
        return _tag(self)


@dataclass(frozen=True, slots=True)
class NamespaceChange:
    """What to change; ``None`` leaves it, and ``clear_…`` lets one above or the settings say."""

    visibility: Visibility | None = None
    clear_visibility: bool = False
    create_on_push: bool | None = None
    clear_create_on_push: bool = False
    gate: Gate | None = None
    clear_gate: bool = False
    scan: bool | None = None
    clear_scan: bool = False
    waivers_by_two: bool | None = None
    clear_waivers_by_two: bool = False
    promotions_by_two: bool | None = None
    clear_promotions_by_two: bool = False
    trial_queue_max: int | None = None
    clear_trial_queue_max: bool = False
    trial_seconds_per_hour: int | None = None
    clear_trial_seconds_per_hour: bool = False

    def values(self) -> dict[str, Any]:
        """The columns that change."""
        values = {
            "visibility": self.visibility,
            "create_on_push": self.create_on_push,
            "gate": self.gate,
            "scan": self.scan,
            "waivers_by_two": self.waivers_by_two,
            "promotions_by_two": self.promotions_by_two,
            "trial_queue_max": self.trial_queue_max,
            "trial_seconds_per_hour": self.trial_seconds_per_hour,
        }
        cleared = {
            "visibility": self.clear_visibility,
            "create_on_push": self.clear_create_on_push,
            "gate": self.clear_gate,
            "scan": self.clear_scan,
            "waivers_by_two": self.clear_waivers_by_two,
            "promotions_by_two": self.clear_promotions_by_two,
            "trial_queue_max": self.clear_trial_queue_max,
            "trial_seconds_per_hour": self.clear_trial_seconds_per_hour,
        }
        return {
            column: None if cleared[column] else value
            for column, value in values.items()
            if cleared[column] or value is not None
        }


async def create(database: Database, *, actor: Actor, name: str, wanted: NamespaceChange) -> None:
    """Make a namespace before there is a repository in it, to give roles on it.

    Raises:
        UnauthorizedError, DeniedError: the actor is neither administrator nor owner of one above.
        NameInvalidError: outside the grammar.
        ConflictError: there is one.
    """
    parse_repository_name(name)
    await require_or_tell(database, actor, "administer", f"{name}/", None)
    _require_caps_right(actor, wanted)
    async with database.write() as connection:
        if not await insert_namespace(connection, name, wanted.values(), actor=actor):
            raise ConflictError(f"there is a namespace {name} already")


async def show(database: Database, *, actor: Actor, name: str) -> NamespaceDetails:
    """A namespace, and how much is in it.

    Raises:
        UnauthorizedError, DeniedError: the actor has no role on it.
        NotFoundError: there is none.
    """
    if not may_administer(actor):
        await require_or_tell(database, actor, "pull", f"{name}/", None)
    async with database.read() as connection:
        row = (await connection.execute(_COLUMNS.where(namespaces.c.name == name))).first()
        if row is None:
            raise _unknown(name)
        # What is copied from other registries lies in repositories that are nobody's to see.
        below = _below(select(repositories.c.name), repositories, name).where(
            ~repositories.c.name.contains(f"/{HIDDEN}", autoescape=True)
        )
        first = (await connection.execute(below.order_by(repositories.c.name).limit(SHOWN_MAX))).scalars()
        return NamespaceDetails(
            **row._asdict(),
            repositories=await _count(connection, below),
            namespaces=await _count(connection, _below(select(namespaces.c.name), namespaces, name)),
            first_repositories=tuple(first),
        )


async def list_visible(database: Database, *, actor: Actor, limit: int, after: str | None) -> list[Namespace]:
    """At most ``limit`` namespaces, by name, those after ``after``: an administrator's and an auditor's view
    of all, else those that the actor has a role on."""
    patterns = {"*"} if may_administer(actor) else pull_patterns(actor)
    everywhere = actor.is_admin or actor.is_auditor
    held = {on for on in actor.roles if on.endswith("/")}
    async with database.read() as connection:
        names = await read_in_order(
            connection,
            partial(_streams, patterns, {"*"} if everywhere else {f"{on}*" for on in held}),
            after=after or "",
            limit=limit,
            allowed=partial(_is_allowed, actor),
        )
        found: list[Namespace] = []
        for batch in batches(names):
            query = _COLUMNS.where(namespaces.c.name.in_(batch)).order_by(namespaces.c.name)
            found += [Namespace(*row) for row in await connection.execute(query)]
    return found


async def change(
    database: Database,
    *,
    actor: Actor,
    name: str,
    wanted: NamespaceChange,
    conditions: Conditions = NO_CONDITIONS,
) -> None:
    """Change what it says of new repositories. Those that are there stay as they are.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer, or no owner where it would take one person
            to promote and took two.
        NotFoundError: there is none.
        PreconditionFailedError: ``conditions`` do not hold.
    """
    await require_or_tell(database, actor, "configure", f"{name}/", None)
    _require_caps_right(actor, wanted)
    async with database.write() as connection:
        row = await _locked(connection, name)
        conditions.require(_tag(row), f"namespace {name}")
        await _require_may_loosen(database, actor, row, wanted.values())
        await _change(connection, row, wanted.values(), actor=actor)


async def put(
    database: Database, *, actor: Actor, name: str, wanted: NamespaceChange, conditions: Conditions
) -> bool:
    """Have a namespace as ``wanted``; what is left out is said above it, but for caps, which are left where
    nothing is said of them. True: it is new.

    Raises:
        UnauthorizedError, DeniedError: as :func:`change` where there is one, else as :func:`create`.
        NameInvalidError: outside the grammar.
        PreconditionFailedError: ``conditions`` do not hold.
        ConflictError: somebody makes it just now.
    """
    parse_repository_name(name)
    await require_or_tell(database, actor, "configure", f"{name}/", None)
    _require_caps_right(actor, wanted)
    async with database.write() as connection:
        row = (await connection.execute(_COLUMNS.where(namespaces.c.name == name).with_for_update())).first()
        if row is None:
            await require_or_tell(database, actor, "administer", f"{name}/", None)
        conditions.require(None if row is None else _tag(row), f"namespace {name}")
        left_out = dict.fromkeys(name for name in _CHANGEABLE if name not in _CAPS)
        values = {**left_out, **wanted.values()}
        if row is not None:
            await _require_may_loosen(database, actor, row, values)
            await _change(connection, row, values, actor=actor)
        elif not await insert_namespace(connection, name, values, actor=actor):
            raise ConflictError(f"there is a namespace {name} already; look at it and try again")
        return row is None


async def _require_may_loosen(
    database: Database, actor: Actor, row: Row[Any], wanted: dict[str, Any]
) -> None:
    """Whoever could say that one person is enough, and take it back, would need no second one. Where nothing
    is said here, one above may have said that it takes two."""
    before = row.promotions_by_two
    after = wanted.get("promotions_by_two", before)
    if after != before and before is not False and after is not True:
        await require_or_tell(database, actor, "administer", f"{row.name}/", None)


async def _change(
    connection: AsyncConnection, row: Row[Any], wanted: dict[str, Any], *, actor: Actor
) -> None:
    changes = {
        column: [getattr(row, column), value]
        for column, value in wanted.items()
        if getattr(row, column) != value
    }
    if not changes:
        return
    values = {column: value for column, (_, value) in changes.items()}
    await connection.execute(update(namespaces).where(namespaces.c.name == row.name).values(values))
    await record(connection, "namespace.changed", f"{row.name}/", actor, changes)


def _require_caps_right(actor: Actor, wanted: NamespaceChange) -> None:
    """A cap limits those who manage a namespace, as a quota does: it is not for them to set."""
    if not wanted.values().keys().isdisjoint(_CAPS):
        require_admin(actor)


def _tag(namespace: Any) -> str:
    given = [getattr(namespace, name) for name in ("gate", "waivers_by_two", "promotions_by_two")]
    caps = {name: getattr(namespace, name) for name in _CAPS if getattr(namespace, name) is not None}
    # As a version knows it that does not have these, where nothing is said of them.
    more = given if any(each is not None for each in given) else []
    news = [caps] if caps else []
    news += [] if namespace.scan is None else [{"scan": namespace.scan}]
    return entity_tag(namespace.created_at, namespace.visibility, namespace.create_on_push, *more, *news)


async def delete(
    database: Database, blobs: BlobStore, settings: Settings, *, actor: Actor, name: str, with_content: bool
) -> None:
    """Remove a namespace with its robots and all roles on it, and ``with_content`` all that is below it: one
    repository at a time, so that what is left after a crash can be deleted by asking again.

    Raises:
        UnauthorizedError, DeniedError: the actor is no owner, or the registry is read-only.
        NotFoundError: there is none.
        ConflictError: something is below it.
    """
    await require_or_tell(database, actor, "administer", f"{name}/", None)
    if with_content:
        require_writable(read_only=settings.read_only)
        async with database.read_once() as connection:
            if (await connection.execute(_COLUMNS.where(namespaces.c.name == name))).first() is None:
                raise _unknown(name)
        while rows := await _last_below(database, repositories, repos.COLUMNS, name):
            for row in rows:
                await administration.remove(database, blobs, repos.from_row(row), actor=actor)
        while rows := await _last_below(database, namespaces, _COLUMNS, name):
            for row in rows:
                await _delete_empty(database, actor=actor, name=row.name)
    await _delete_empty(database, actor=actor, name=name)


async def rename(
    database: Database, settings: Settings, *, actor: Actor, name: str, to: str, effects: Effects
) -> None:
    """Give a namespace another name, and with it all that is below: repositories, namespaces and robots, with
    their roles and tokens. Nothing leads from the old names to the new ones, and what named a repository
    exactly opens nothing any more (:func:`~registry.content.administration.move`).

    Raises:
        UnauthorizedError, DeniedError: the actor is no owner of both ends, or the registry is read-only.
        NameInvalidError: ``to`` is outside the grammar, or a name below it would be.
        NotFoundError: there is none.
        ConflictError: there is something at ``to`` already, or it lies in ``name``.
        DeniedError: a namespace that it comes into would hold more than its quota.
    """
    parse_repository_name(to)
    await require_or_tell(database, actor, "administer", f"{name}/", None)
    await require_or_tell(database, actor, "administer", f"{to}/", None)
    require_writable(read_only=settings.read_only)
    if f"{to}/".startswith(f"{name}/"):
        raise ConflictError(f"{to} is {name} itself, or lies in it")
    try:
        async with database.write() as connection:
            await _locked(connection, name)
            await _require_free(connection, to)
            inside = _below(select(repositories.c.name), repositories, name)
            # In the order of their numbers, as all who lock several.
            held = inside.order_by(repositories.c.id).with_for_update()
            names = list((await connection.execute(held)).scalars())
            for longest in sorted(names, key=len)[-1:]:
                parse_repository_name(f"{to}{longest.removeprefix(name)}")
            # What was spent by the old name is spent; of the new one nothing can be left that counts.
            left = trial_seconds.c.place.startswith(f"{to}/", autoescape=True)
            await connection.execute(sql_delete(trial_seconds).where(left))
            for column in (
                repositories.c.name,
                namespaces.c.name,
                events.c.repository,
                trial_seconds.c.place,
            ):
                await _replace_prefix(connection, column, f"{name}/", f"{to}/")
            await connection.execute(update(namespaces).where(namespaces.c.name == name).values(name=to))
            for separator in ("/", "+"):
                await _replace_prefix(connection, accounts.c.name, f"{name}{separator}", f"{to}{separator}")
            told = {"name": [name, to], "repositories": len(names)}
            await record(connection, "namespace.renamed", f"{to}/", actor, told)
            moved_here = blocks.below(repositories.c.name, f"{to}/")
            await effects.repositories_renamed(connection, moved_here)
            await quotas.enforce_moved(connection, old=name, new=Place(to, is_namespace=True))
            await hold_epochs(connection, "content", "access", "gate")
            await blocks.catch_all(connection, moved_here, effects.images_blocked)
            await effects.repositories_moved(connection, moved_here)
            await bury(connection, *names)
    except IntegrityError:
        raise ConflictError(f"something was made in {to} just now; look at it and try again") from None


async def _require_free(connection: AsyncConnection, name: str) -> None:
    itself = await connection.execute(select(namespaces.c.name).where(namespaces.c.name == name))
    if itself.first() is not None:
        raise ConflictError(f"there is a namespace {name} already; its repositories can be moved one by one")
    for table, kind in ((repositories, "repository"), (namespaces, "namespace")):
        held = (await connection.execute(_below(select(table.c.name), table, name).limit(1))).scalar()
        if held is not None:
            raise ConflictError(f"there is the {kind} {held} in {name} already")


async def _replace_prefix(connection: AsyncConnection, column: Column[str], old: str, new: str) -> None:
    within = NameRange(old).conditions(column, "")
    assert within is not None
    renamed = literal(new, column.type) + func.substr(column, len(old) + 1)
    await connection.execute(update(column.table).where(*within).values({column: renamed}))


async def _delete_empty(database: Database, *, actor: Actor, name: str) -> None:
    async with database.write() as connection:
        await _locked(connection, name)
        for table, kind in ((repositories, "repository"), (namespaces, "namespace")):
            first = _below(select(table.c.name), table, name).order_by(table.c.name).limit(1)
            held = (await connection.execute(first)).scalar()
            if held is not None:
                raise ConflictError(
                    f"{name} is not empty: the {kind} {held} is in it; delete what it holds first, or all of "
                    "it at once (seatrial namespace delete --with-content)"
                )
        await hold_all_of(connection, Place(name, is_namespace=True))
        await connection.execute(sql_delete(namespaces).where(namespaces.c.name == name))
        await record(connection, "namespace.deleted", f"{name}/", actor, {})
        await move_epoch(connection, "access")


async def _locked(connection: AsyncConnection, name: str) -> Row[Any]:
    """The namespace's row, which nobody else changes and in which nobody makes a repository meanwhile."""
    row: Row[Any] | None = (
        await connection.execute(_COLUMNS.where(namespaces.c.name == name).with_for_update())
    ).first()
    if row is None:
        raise _unknown(name)
    return row


async def _last_below(database: Database, table: Table, columns: Select[Any], name: str) -> list[Row[Any]]:
    """Some of what is below, the last by name first: what is deeper comes before what it is in."""
    query = _below(columns, table, name).order_by(table.c.name.desc()).limit(_DELETED_AT_ONCE)
    async with database.read_once() as connection:
        return list((await connection.execute(query)).all())


def _below(columns: Select[Any], table: Table, name: str) -> Select[Any]:
    conditions = NameRange(f"{name}/").conditions(table.c.name, "")
    assert conditions is not None
    return columns.where(*conditions)


async def _count(connection: AsyncConnection, query: Select[Any]) -> int:
    counted = query.limit(COUNTED_MAX).subquery()
    return (await connection.execute(select(func.count()).select_from(counted))).scalar_one()


def _streams(patterns: Iterable[str], opened: Iterable[str], after: str) -> list[list[Select[Any]]]:
    """What of the namespaces a token covers and an account may see: a slash at the end is not in the name."""
    name = namespaces.c.name
    found: list[tuple[str, Select[Any]]] = []
    areas = ranges(opened)
    for part in ranges(patterns):
        for area in areas:
            inside = NameRange(part.prefix).narrowed(area.prefix)
            if inside is None:
                continue
            conditions = inside.conditions(name, after)
            if conditions:
                found.append((inside.prefix, select(name).where(*conditions)))
            itself = inside.prefix.removesuffix("/")
            if itself != inside.prefix and itself > after:
                found.append((itself, select(name).where(name == itself)))
    return [[query for _, query in sorted(found, key=lambda one: one[0])]]


def _is_allowed(actor: Actor, row: Row[Any]) -> bool:
    return may_administer(actor) or decide(actor, "pull", f"{row.name}/", None).allowed


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"there is no namespace {name[:300]}")


_CAPS = ("trial_queue_max", "trial_seconds_per_hour")
_CHANGEABLE = ("visibility", "create_on_push", "gate", "scan", "waivers_by_two", "promotions_by_two", *_CAPS)
_COLUMNS: Select[Any] = select(
    namespaces.c.name, *(namespaces.c[name] for name in _CHANGEABLE), namespaces.c.created_at
)
