"""What places may hold, as administrators say it, and what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, literal, or_, select, union, union_all, update

from registry.auth.access import require_admin, require_auditor
from registry.auth.places import Place, find_place, hold_place, parse_place
from registry.auth.policy import decide, is_hidden
from registry.content import quotas as use
from registry.content import repositories as repos
from registry.content.administration import require_place
from registry.content.quotas import NOTHING, RESOURCES, Amounts, Quota, amounts_of, usage_at, usage_below
from registry.db.access import namespaces
from registry.db.content import repositories
from registry.db.dialect import insert
from registry.db.engine import move_epoch
from registry.db.outbox import record
from registry.db.placed import with_place
from registry.db.quotas import Resource, quotas
from registry.db.usage import COUNTED, repository_usage
from registry.db.usage import used as one_used
from registry.errors import NameUnknownError, RequestInvalidError
from registry.oci.conditions import NO_CONDITIONS, Conditions, entity_tag

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.db.engine import Database

_AT_ONCE = 100
"""So many places are read in one statement."""


@dataclass(frozen=True, slots=True)
class Limits:
    """So much of each resource at most; ``None``: no quota."""

    bytes: int | None = None
    repositories: int | None = None
    tags: int | None = None
    uploads: int | None = None

    def of(self, resource: Resource) -> int | None:
        """How much of one."""
        most: int | None = getattr(self, resource)
        return most


@dataclass(frozen=True, slots=True)
class PlaceQuotas:
    """A repository, or a namespace with a slash at its end: what it holds, and its quotas."""

    on: str
    used: Amounts
    quota: Limits


@dataclass(frozen=True, slots=True)
class CountingQuotas:
    """As :class:`PlaceQuotas`; ``above`` are the namespaces above it whose quotas count as well, the nearest
    first."""

    on: str
    used: Amounts
    quota: Limits
    above: Sequence[PlaceQuotas]

    @property
    def etag(self) -> str:
        """The entity tag of the place's own quotas."""
        return _tag(self.on, self.quota)


async def show(database: Database, *, actor: Actor, on: str) -> CountingQuotas:
    """What a place holds and may hold; of namespaces above it those that the actor may look into.

    Raises:
        UnauthorizedError, DeniedError: the actor may not pull there.
        NameUnknownError, NotFoundError: there is no such place.
    """
    place = await require_place(database, actor=actor, action="pull", on=on)
    seen = [name for name in place.above if decide(actor, "pull", f"{name}/", None).allowed]
    return await _show(database, place, seen)


async def _show(database: Database, place: Place, seen: Sequence[str]) -> CountingQuotas:
    async with database.read() as connection:
        await find_place(connection, place)
        above = [Place(name, is_namespace=True) for name in seen]
        own, *others = await _read(connection, [place, *above])
    return CountingQuotas(own.on, own.used, own.quota, [one for one in others if one.quota != Limits()])


async def list_limited(
    database: Database, *, actor: Actor, limit: int, after: str | None
) -> list[PlaceQuotas]:
    """At most ``limit`` places that have quotas, by name, those after ``after``, for administrators and
    auditors.

    Raises:
        UnauthorizedError, DeniedError: the actor is neither.
    """
    require_auditor(actor, "look at all quotas")
    name, key = repositories.c.name, namespaces.c.name + "/"
    several = (
        select(name.label("key")).where(repositories.c.quota_bytes.is_not(None), name > (after or "")),
        select(name.label("key")).join(quotas).where(name > (after or "")),
        select(key.label("key")).join(quotas).where(key > (after or "")),
    )
    parts = (query.order_by("key").limit(limit).subquery().select() for query in several)
    found = union(*parts).subquery()
    async with database.read() as connection:
        keys = await connection.execute(select(found.c.key).order_by(found.c.key).limit(limit))
        return await _read(connection, [parse_place(each) for each in keys.scalars()])


async def change(
    database: Database,
    *,
    actor: Actor,
    on: str,
    wanted: Mapping[Resource, int | None],
    conditions: Conditions = NO_CONDITIONS,
) -> CountingQuotas:
    """Limit what a place may hold, or no longer (``None``); what ``wanted`` does not name stays. What it
    holds stays as well: less than that only refuses more.

    Raises:
        UnauthorizedError, DeniedError: the actor is no administrator.
        NameUnknownError, NotFoundError: there is no such place.
        RequestInvalidError: a quota that such a place cannot have.
        PreconditionFailedError: ``conditions`` do not hold.
    """
    require_admin(actor)
    place = parse_place(on)
    if not place.is_namespace and wanted.get("repositories") is not None:
        raise RequestInvalidError(f"{on} is a repository: how many there may be is said of a namespace")
    if is_hidden(place.name):
        raise NameUnknownError(f"there is no repository {place.name}")
    async with database.write() as connection:
        number = await hold_place(connection, place)
        if not place.is_namespace:
            await repos.lock(connection, number)
        await use.take_turns(connection, place, RESOURCES if conditions else wanted)
        before = await _limits(connection, place, number)
        conditions.require(_tag(place.key, before), f"what {place.key} may hold")
        changes = {each: most for each, most in wanted.items() if most != before.of(each)}
        for resource, most in changes.items():
            await _set(connection, place, number, resource, most)
        if changes:
            told: dict[str, object] = {each: [before.of(each), most] for each, most in changes.items()}
            await record(connection, "quota.changed", place.key, actor, told)
        used = await usage_at(connection, place, number)
        for resource, most in changes.items():
            if most is not None:
                quota = Quota(place, resource, most)
                await use.tell_limited(connection, quota, before.of(resource), used.of(resource))
        if "bytes" in changes and not place.is_namespace:
            await move_epoch(connection, "access")
    return await _show(database, place, place.above)


async def clear(database: Database, *, actor: Actor, on: str, conditions: Conditions = NO_CONDITIONS) -> None:
    """Let a place hold whatever it does; quotas of namespaces above count on.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError, NotFoundError, PreconditionFailedError: as
            :func:`change`.
    """
    wanted = dict.fromkeys(RESOURCES)
    await change(database, actor=actor, on=on, wanted=wanted, conditions=conditions)


def _tag(on: str, quota: Limits) -> str:
    return entity_tag(on, *(quota.of(resource) for resource in RESOURCES))


async def _read(connection: AsyncConnection, places: Sequence[Place]) -> list[PlaceQuotas]:
    """What these places hold and may hold, in three statements for a hundred of them."""
    found: list[PlaceQuotas] = []
    for start in range(0, len(places), _AT_ONCE):
        some = places[start : start + _AT_ONCE]
        names = [place.name for place in some if not place.is_namespace]
        above = [place.name for place in some if place.is_namespace]
        used: dict[str, Amounts] = {}
        limits: dict[str, dict[str, int]] = {place.key: {} for place in some}
        if names:
            counts = (func.coalesce(one_used(what), 0).label(what) for what in COUNTED)
            query = (
                select(
                    repositories.c.name, repositories.c.quota_bytes, literal(1).label("repositories"), *counts
                )
                .outerjoin(repository_usage)
                .where(repositories.c.name.in_(names))
            )
            for row in await connection.execute(query):
                used[row.name] = amounts_of(row)
                limits[row.name] |= {} if row.quota_bytes is None else {"bytes": row.quota_bytes}
        if above:
            each = (usage_below(name).add_columns(literal(f"{name}/").label("key")) for name in above)
            for row in await connection.execute(union_all(*each)):
                used[row.key] = amounts_of(row)
        given = with_place(quotas, quotas.c.resource, quotas.c.most).where(
            or_(repositories.c.name.in_(names), namespaces.c.name.in_(above))
        )
        for row in await connection.execute(given):
            limits[row.place][row.resource] = row.most
        found += [
            PlaceQuotas(place.key, used.get(place.key, NOTHING), Limits(**limits[place.key]))
            for place in some
        ]
    return found


async def _limits(connection: AsyncConnection, place: Place, number: int) -> Limits:
    rows = await connection.execute(
        select(quotas.c.resource, quotas.c.most).where(quotas.c[place.column] == number)
    )
    found = {row.resource: row.most for row in rows}
    if not place.is_namespace:
        this = select(repositories.c.quota_bytes).where(repositories.c.id == number)
        found["bytes"] = (await connection.execute(this)).scalar_one()
    return Limits(**found)


async def _set(
    connection: AsyncConnection, place: Place, number: int, resource: Resource, most: int | None
) -> None:
    if resource == "bytes" and not place.is_namespace:
        this = repositories.c.id == number
        await connection.execute(update(repositories).where(this).values(quota_bytes=most))
    elif most is None:
        this = quotas.c[place.column] == number
        await connection.execute(delete(quotas).where(this, quotas.c.resource == resource))
    else:
        given = insert(connection, quotas).values({place.column: number, "resource": resource, "most": most})
        index = [place.column, "resource"]
        await connection.execute(given.on_conflict_do_update(index_elements=index, set_={"most": most}))
