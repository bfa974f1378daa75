"""Retention policies on repositories and namespaces: set, shown, cleared, and which one counts where.

The nearest one counts, alone: a repository's own, else that of the nearest namespace above.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, or_, select

from registry.auth.places import find_place, hold_place, nearest_at, nearest_in
from registry.auth.policy import namespaces_above
from registry.content import retaining
from registry.content.administration import find_at, require_place
from registry.content.blocks import below
from registry.content.recurring import following, parse_time
from registry.content.repositories import COLUMNS, Repository, from_row
from registry.content.retentionrules import RetentionPolicy, policy_of, require_valid
from registry.db.access import namespaces
from registry.db.content import repositories
from registry.db.dialect import in_turn, insert
from registry.db.outbox import record
from registry.db.placed import with_place
from registry.db.retention import retention_policies
from registry.db.types import db_time
from registry.errors import NotFoundError
from registry.oci.conditions import NO_CONDITIONS, Conditions, entity_tag

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.auth.places import Place
    from registry.content.retaining import Plan
    from registry.db.engine import Database

_COLUMNS = tuple(
    retention_policies.c[name] for name in ("id", "document", "next_at", "created_by", "created_at")
)
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class PlacedRetention:
    """A retention policy, ``on`` which place it was set, and when it is carried out next by itself."""

    on: str
    policy: RetentionPolicy
    next_at: datetime | None
    created_by: str
    created_at: datetime

    @property
    def etag(self) -> str:
        """Its entity tag: that of a policy above is another one's."""
        return _tag(self.on, self.policy)


@dataclass(frozen=True, slots=True)
class Counting:
    """The policy that counts in a repository."""

    policy_id: int
    document: str


@dataclass(frozen=True, slots=True)
class Target:
    """A repository, and the policy that counts in it."""

    repository: Repository
    counting: Counting


async def require_retaining(database: Database, *, actor: Actor, on: str) -> Place:
    """The place, if the actor may say there what goes. That deletes: a token that may only ``configure`` may
    not.

    Raises:
        NameInvalidError: outside the grammar.
        UnauthorizedError, DeniedError, NameUnknownError: as :func:`require_place`.
    """
    await require_place(database, actor=actor, action="configure", on=on)
    return await require_place(database, actor=actor, action="delete", on=on)


async def put(
    database: Database,
    *,
    actor: Actor,
    on: str,
    wanted: RetentionPolicy,
    pulls_kept_days: int,
    conditions: Conditions = NO_CONDITIONS,
) -> PlacedRetention:
    """Let a policy count on a repository, or in all below a namespace that have no nearer one.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of the place, or its token may not delete.
        NameUnknownError, NotFoundError: there is no such place.
        RequestInvalidError: it is none.
        PreconditionFailedError: ``conditions`` do not hold of the place's own policy.
    """
    place = await require_retaining(database, actor=actor, on=on)
    require_valid(wanted, pulls_kept_days=pulls_kept_days)
    at_minute = None if wanted.at is None else parse_time(wanted.at)
    async with database.write() as connection:
        place_id = await hold_place(connection, place)
        # Who holds a place lets others hold it too.
        await in_turn(connection, f"retention policy of {place.key}")
        here = retention_policies.c[place.column] == place_id
        now = (await connection.execute(select(db_time()))).scalar_one()
        next_at = None
        if wanted.every_hours is not None or at_minute is not None:
            next_at = following(now, now, every_hours=wanted.every_hours, at_minute=at_minute)
        before = (await connection.execute(select(retention_policies.c.document).where(here))).scalar()
        _require(conditions, place.key, before)
        values = {
            "document": wanted.document,
            "next_at": next_at,
            "created_by": actor.shown,
            "created_at": now,
        }
        if before != wanted.document:
            await connection.execute(
                insert(connection, retention_policies)
                .values({place.column: place_id, **values})
                .on_conflict_do_update(index_elements=[place.column], set_=values)
            )
            told = {"before": before, "policy": wanted.document}
            await record(connection, "retention.set", place.key, actor, told)
        row = (await connection.execute(select(*_COLUMNS).where(here))).one()
    return _placed(place.key, row)


async def list_counting(database: Database, *, actor: Actor, on: str) -> Sequence[PlacedRetention]:
    """The policies on a place and on the namespaces above it, the nearest first: that one counts.

    Raises:
        UnauthorizedError, DeniedError: the actor may not pull there.
        NameUnknownError, NotFoundError: there is no such place.
    """
    place = await require_place(database, actor=actor, action="pull", on=on)
    async with database.read() as connection:
        place_id = await find_place(connection, place)
        query = nearest_at(retention_policies, place, place_id, *_COLUMNS)
        rows = (await connection.execute(query)).all()
    return [_placed(row.place, row) for row in rows]


async def clear(database: Database, *, actor: Actor, on: str, conditions: Conditions = NO_CONDITIONS) -> None:
    """Take a place's own policy away; that of a namespace above counts then, if there is one.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of the place.
        NameUnknownError, NotFoundError: there is no such place, or it has no policy of its own.
        PreconditionFailedError: ``conditions`` do not hold.
    """
    place = await require_place(database, actor=actor, action="configure", on=on)
    async with database.write() as connection:
        here = retention_policies.c[place.column] == await hold_place(connection, place)
        await in_turn(connection, f"retention policy of {place.key}")
        gone = delete(retention_policies).where(here).returning(retention_policies.c.document)
        document = (await connection.execute(gone)).scalar()
        _require(conditions, place.key, document)
        if document is None:
            raise NotFoundError(f"{on} has no retention policy of its own")
        await record(connection, "retention.cleared", place.key, actor, {"policy": document})


@dataclass(frozen=True, slots=True)
class Previewed:
    """What a policy would do in a repository. ``policies`` is the digest of those that count at the place;
    ``None``: what was looked at is not set."""

    repository: str
    plan: Plan
    policies: str | None


async def preview(
    database: Database,
    *,
    actor: Actor,
    on: str,
    wanted: RetentionPolicy | None,
    limit: int,
    staying: int,
    after: str | None,
    pulls_kept_days: int,
) -> tuple[Previewed | None, RetentionPolicy | None, str | None]:
    """What would go now from the first repository of a place after the name ``after``, by the policy that
    counts there, or by ``wanted`` in the place of that of this place; that policy; and the name to go on
    after, if there is more.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of the place.
        NameUnknownError, NotFoundError: there is no such place, or no policy counts there.
        RequestInvalidError: ``wanted`` is no policy.
        ConflictError: something that the rules ask for is not known.
    """
    place, repository = await find_at(database, actor=actor, action="configure", on=on)
    if wanted is not None:
        require_valid(wanted, pulls_kept_days=pulls_kept_days)
    async with database.read() as connection:
        nearest = await by_place(connection, place)
        found = await targets(
            connection,
            place,
            nearest=nearest,
            repository=repository,
            after=after or "",
            instead=wanted,
            limit=2,
        )
        if not found:
            await find_place(connection, place)
    if not found:
        if after is None:
            raise NotFoundError(f"no retention policy counts on {on}")
        return None, None, None
    first = found[0]
    policy = wanted or policy_of(first.counting.document)
    planned = await retaining.plan(
        database, first.repository, policy, limit=limit, staying=staying, pulls_kept_days=pulls_kept_days
    )
    following_after = first.repository.name if len(found) > 1 else None
    policies = None if wanted else digest_of(place, nearest)
    return Previewed(first.repository.name, planned, policies), policy, following_after


async def counting(connection: AsyncConnection, repository_id: int, name: str) -> Counting | None:
    """The policy that counts in a repository; ``None``: none does."""
    query = nearest_in(retention_policies, repository_id, name, *_COLUMNS)
    row = (await connection.execute(query.limit(1))).first()
    return None if row is None else Counting(row.id, row.document)


async def targets(
    connection: AsyncConnection,
    place: Place,
    *,
    nearest: Mapping[str, Counting] | None = None,
    repository: Repository | None = None,
    after: str = "",
    instead: RetentionPolicy | None = None,
    limit: int | None = None,
) -> list[Target]:
    """The repositories of a place, those after a name in order, in which a policy counts. With ``instead``
    those in which that would count, if it were set there: it has the number 0. At most ``limit``.
    ``repository`` is the one that the place is, if it is one and is known; ``nearest`` what
    :func:`by_place` gives, if that is."""
    name = repositories.c.name
    within = below(name, place.key) if place.is_namespace else name == place.name
    query = COLUMNS.where(within).order_by(name).limit(_PAGE)
    counts_at = dict(await by_place(connection, place) if nearest is None else nearest)
    wanted = None if instead is None else Counting(0, instead.document)
    if wanted is not None:
        counts_at[place.key] = wanted
    found: list[Target] = []

    def take(one: Repository) -> None:
        counts = next((counts_at[key] for key in _keys(one.name) if key in counts_at), None)
        if counts is not None and wanted in (None, counts):
            found.append(Target(one, counts))

    if repository is not None:
        if repository.name > after:
            take(repository)
        return found
    while True:
        rows = (await connection.execute(query.where(name > after))).all()
        for one in map(from_row, rows):
            take(one)
        if len(rows) < _PAGE or (limit is not None and len(found) >= limit):
            return found if limit is None else found[:limit]
        after = rows[-1].name


def digest_of(place: Place, nearest: Mapping[str, Counting]) -> str:
    """The digest of the policies that count in repositories of a place, of what :func:`by_place` gives: other
    ones, another digest."""
    counting_here = next((key for key in _keys(place.name, place.key) if key in nearest), None)
    return entity_tag(
        sorted(
            (key, policy.document)
            for key, policy in nearest.items()
            if key == counting_here or (place.is_namespace and key.startswith(place.key))
        )
    )


async def by_place(connection: AsyncConnection, place: Place) -> dict[str, Counting]:
    """The policies that may count in repositories of a place, by the key of where they are."""
    shown = with_place(retention_policies, *_COLUMNS)
    conditions: list[ColumnElement[bool]] = [
        namespaces.c.name.in_((*place.above, place.name) if place.is_namespace else place.above)
    ]
    if place.is_namespace:
        conditions += [below(namespaces.c.name, place.key), below(repositories.c.name, place.key)]
    else:
        conditions.append(repositories.c.name == place.name)
    rows = await connection.execute(shown.where(or_(*conditions)))
    return {row.place: Counting(row.id, row.document) for row in rows}


def _keys(name: str, own: str | None = None) -> Iterator[str]:
    yield own or name
    yield from (f"{above}/" for above in namespaces_above(name))


def _tag(on: str, policy: RetentionPolicy) -> str:
    return entity_tag(on, policy.document)


def _require(conditions: Conditions, on: str, document: str | None) -> None:
    stands = None if document is None else _tag(on, policy_of(document))
    conditions.require(stands, f"the retention policy of {on}")


def _placed(on: str, row: Any) -> PlacedRetention:
    return PlacedRetention(on, policy_of(row.document), row.next_at, row.created_by, row.created_at)
