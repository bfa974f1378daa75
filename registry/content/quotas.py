"""How much a place may hold: logical bytes, repositories, tags, open upload sessions.

What a repository holds stands in one row that the database itself keeps (:mod:`registry.db.usage`), exact
after any crash. A namespace holds what the repositories below it do, and its quotas count for all of them.

What a transaction adds is held against the quotas at its end, before the epochs. From then on nobody else is:
of two pushes that each fit, and together do not, the later one is refused. Pulls are never refused. What is
copied to be tried counts in no namespace: an upstream has a limit of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from sqlalchemy import exists, func, select

from registry.auth.actor import REGISTRY
from registry.auth.places import Place
from registry.auth.policy import HIDDEN, is_hidden, namespaces_above
from registry.content.nameranges import NameRange
from registry.db.access import namespaces
from registry.db.content import repositories
from registry.db.dialect import in_turn
from registry.db.outbox import record_all
from registry.db.quotas import Resource, quotas
from registry.db.usage import COUNTED, repository_usage, usage_changes, used
from registry.errors import DeniedError, TooManyRequestsError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.content.repositories import Repository
    from registry.db.engine import Database
    from registry.errors import SeatrialError

RESOURCES: tuple[Resource, ...] = get_args(Resource)
TOLD_AT = (80, 100)
"""Percent of a quota that an event tells of, once each time that so much is reached."""
_RETRY_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Amounts:
    """So much of each resource."""

    bytes: int = 0
    repositories: int = 0
    tags: int = 0
    uploads: int = 0

    def of(self, resource: Resource) -> int:
        """How much of one."""
        amount: int = getattr(self, resource)
        return amount


NOTHING = Amounts()


@dataclass(frozen=True, slots=True)
class Quota:
    """What a place may hold of one resource at most."""

    place: Place
    resource: Resource
    most: int


async def require_room(database: Database, repository: Repository, more_bytes: int) -> Quota | None:
    """Refuse bytes before they are sent, where it is known that there is no room for them. Returns the
    smallest quota of bytes that counts here.

    Raises:
        DeniedError: with them, the repository or a namespace above would hold more than its quota.
    """
    if is_hidden(repository.name):
        return None
    async with database.read_once() as connection:
        counting = await _of_namespaces(connection, _above(repository.name), ["bytes"])
    if repository.quota_bytes is not None:
        counting.insert(0, Quota(Place(repository.name, is_namespace=False), "bytes", repository.quota_bytes))
    if not counting:
        return None
    async with database.read() as connection:
        for quota in counting:
            held = (await usage_at(connection, quota.place, repository.id)).bytes
            if held + more_bytes > quota.most:
                raise _exceeded(quota, held, more_bytes)
    return min(counting, key=lambda quota: quota.most)


def require_possible(quota: Quota, size: int) -> None:
    """Refuse a blob of ``size`` bytes or more for which there could never be room, however empty it was.

    Raises:
        DeniedError: it is larger than the whole quota.
    """
    if size > quota.most:
        raise DeniedError(
            f"this blob is larger than the {quota.most} bytes that the quota of {_shown(quota.place)} "
            f"allows; make it smaller, or {_remedy(quota)}"
        )


async def enforce(
    connection: AsyncConnection, repository_id: int, added: Amounts, *, coming: Amounts = NOTHING
) -> None:
    """Let the caller's transaction keep what it has ``added`` to a repository, and add what is ``coming``, or
    not; and tell where that reaches a share of a quota. The transaction takes nothing afterwards that others
    may hold, but the epochs.

    Raises:
        DeniedError: with it, the repository or a namespace above holds more than its quota.
        TooManyRequestsError: the same, of uploads: there may soon be room.
    """
    for quota, now, more in await _counted(connection, repository_id, added, coming):
        if now > quota.most:
            raise _exceeded(quota, now - more, more)
        await _tell(connection, quota, now - more, now)


async def tell(connection: AsyncConnection, repository_id: int, added: Amounts) -> None:
    """As :func:`enforce`, of what the registry itself adds, whatever the quota."""
    for quota, now, more in await _counted(connection, repository_id, added, NOTHING):
        await _tell(connection, quota, now - more, now)


async def enforce_new(connection: AsyncConnection, name: str) -> None:
    """Let the caller's transaction keep the repository that it has just made, or not.

    Raises:
        DeniedError: with it, a namespace above has more of them than its quota.
    """
    if is_hidden(name):
        return
    counting = await _of_namespaces(connection, _above(name), ["repositories"])
    await _in_turn(connection, counting)
    for quota in counting:
        now = (await usage_in(connection, quota.place.name)).repositories
        if now > quota.most:
            raise _exceeded(quota, now - 1, 1)
        await _tell(connection, quota, now - 1, now)


async def enforce_moved(connection: AsyncConnection, *, old: str, new: Place) -> None:
    """Let the caller's transaction keep a place that has just got the name ``new``, or not: what it holds
    counts in the namespaces that it came into.

    Raises:
        DeniedError: with it, one of them holds more than its quota.
    """
    entered = set(namespaces_above(new.name)) - set(namespaces_above(old))
    if not entered:
        return
    came = await _usage_by_name(connection, new)
    counting = await _of_namespaces(
        connection, namespaces.c.name.in_(entered), ["bytes", "repositories", "tags"]
    )
    await _in_turn(connection, counting)
    for quota in counting:
        now = (await usage_in(connection, quota.place.name)).of(quota.resource)
        more = came.of(quota.resource)
        if now > quota.most and more > 0:
            raise _exceeded(quota, now - more, more)
        await _tell(connection, quota, now - more, now)


async def usage_of(connection: AsyncConnection, repository_id: int) -> Amounts:
    """What a repository holds: one row by its key."""
    counts = (used(what) for what in COUNTED)
    query = select(*counts).where(repository_usage.c.repository_id == repository_id)
    row = (await connection.execute(query)).first()
    return NOTHING if row is None else Amounts(row[0], 1, row[1], row[2])


async def usage_in(connection: AsyncConnection, namespace: str) -> Amounts:
    """What all repositories below a namespace hold together."""
    return amounts_of((await connection.execute(usage_below(namespace))).one())


def usage_below(namespace: str) -> Select[Any]:
    """What they hold, as a row for :func:`amounts_of`."""
    within = NameRange(f"{namespace}/").conditions(repositories.c.name, "")
    assert within is not None, "nothing is left out"
    below = (*within, ~repositories.c.name.contains(f"/{HIDDEN}", autoescape=True))
    counted = usage_changes.c.repository_id.in_(select(repositories.c.id).where(*below))
    sums = (
        (
            func.coalesce(func.sum(repository_usage.c[what]), 0)
            + func.coalesce(select(func.sum(usage_changes.c[what])).where(counted).scalar_subquery(), 0)
        ).label(what)
        for what in COUNTED
    )
    count = func.count().label("repositories")
    return select(count, *sums).select_from(repositories).join(repository_usage).where(*below)


def amounts_of(row: Any) -> Amounts:
    """The amounts in a row. PostgreSQL adds up to another type."""
    return Amounts(int(row.bytes), row.repositories, int(row.tags), int(row.uploads))


async def usage_at(connection: AsyncConnection, place: Place, number: int) -> Amounts:
    """What a place holds; ``number`` is that of a repository's row."""
    return await (usage_in(connection, place.name) if place.is_namespace else usage_of(connection, number))


async def _counted(
    connection: AsyncConnection, repository_id: int, added: Amounts, coming: Amounts
) -> list[tuple[Quota, int, int]]:
    """The quotas of what is added, with how much is used then, and how much of that is new."""
    more = {resource: added.of(resource) + coming.of(resource) for resource in RESOURCES}
    resources = [resource for resource in RESOURCES if more[resource] > 0]
    if not resources:
        return []
    has_quotas = exists().where(quotas.c.id.is_not(None)).label("has_quotas")
    query = select(repositories.c.name, repositories.c.quota_bytes, has_quotas)
    own = (await connection.execute(query.where(repositories.c.id == repository_id))).one()
    place = Place(own.name, is_namespace=False)
    counting: list[Quota] = []
    if own.quota_bytes is not None and more["bytes"] > 0:
        counting.append(Quota(place, "bytes", own.quota_bytes))
    if own.has_quotas and not is_hidden(own.name):
        this = quotas.c.repository_id == repository_id, quotas.c.resource.in_(resources)
        rows = await connection.execute(select(quotas.c.resource, quotas.c.most).where(*this))
        counting += [Quota(place, row.resource, row.most) for row in rows]
        counting += await _of_namespaces(connection, _above(own.name), resources)
    await _in_turn(connection, counting)
    held: dict[Place, Amounts] = {}
    found = []
    for quota in counting:
        if quota.place not in held:
            held[quota.place] = await usage_at(connection, quota.place, repository_id)
        now = held[quota.place].of(quota.resource) + coming.of(quota.resource)
        found.append((quota, now, more[quota.resource]))
    return found


async def take_turns(connection: AsyncConnection, place: Place, resources: Collection[Resource]) -> None:
    """Let nobody count against the quotas of a place before this transaction ends."""
    await _in_turn(connection, [Quota(place, resource, 0) for resource in resources])


async def _in_turn(connection: AsyncConnection, counting: Iterable[Quota]) -> None:
    """Let nobody else count against these before this transaction ends: what is read after this, others have
    committed. Repositories come first, as they do where one is made and more is added later."""
    turns = sorted({(each.resource != "repositories", each.place.key, each.resource) for each in counting})
    for _, key, resource in turns:
        await in_turn(connection, f"quota of {resource} in {key}")


async def _of_namespaces(
    connection: AsyncConnection, which: ColumnElement[bool], resources: Collection[Resource]
) -> list[Quota]:
    query = (
        select(quotas.c.resource, quotas.c.most, namespaces.c.name)
        .join(namespaces, namespaces.c.id == quotas.c.namespace_id)
        .where(which, quotas.c.resource.in_(resources))
        .order_by(quotas.c.id)
    )
    return [
        Quota(Place(row.name, is_namespace=True), row.resource, row.most)
        for row in await connection.execute(query)
    ]


def _above(name: str) -> ColumnElement[bool]:
    return namespaces.c.name.in_(namespaces_above(name))


async def _usage_by_name(connection: AsyncConnection, place: Place) -> Amounts:
    if place.is_namespace:
        return await usage_in(connection, place.name)
    query = select(repositories.c.id).where(repositories.c.name == place.name)
    return await usage_of(connection, (await connection.execute(query)).scalar_one())


async def _tell(connection: AsyncConnection, quota: Quota, before: int, now: int) -> None:
    reached = [share for share in TOLD_AT if before * 100 < quota.most * share <= now * 100]
    await _record(connection, quota, reached, now)


async def tell_limited(connection: AsyncConnection, quota: Quota, before: int | None, now: int) -> None:
    """Tell what share is used of a quota that allowed ``before`` until now, where it is more than it was."""
    reached = [
        share
        for share in TOLD_AT
        if quota.most * share <= now * 100 and (before is None or now * 100 < before * share)
    ]
    await _record(connection, quota, reached, now)


async def _record(connection: AsyncConnection, quota: Quota, shares: Collection[int], now: int) -> None:
    # Uploads come and go within seconds.
    if quota.resource == "uploads":
        return
    said = {"resource": quota.resource, "used": now, "quota": quota.most}
    several = [{**said, "percent": share} for share in shares]
    await record_all(connection, "quota.reached", quota.place.key, REGISTRY, several)


def _exceeded(quota: Quota, held: int, more: int) -> SeatrialError:
    resource, place = quota.resource, quota.place
    detail: dict[str, int | str] = {
        f"used_{resource}": held,
        f"needed_{resource}": more,
        f"quota_{resource}": quota.most,
    }
    if place.is_namespace:
        detail["namespace"] = place.name
    if resource == "uploads":
        return TooManyRequestsError(
            f"{_shown(place)} has {held} of the {quota.most} open uploads that its quota allows; finish or "
            "cancel some, or wait",
            detail=detail,
            headers={"Retry-After": str(_RETRY_SECONDS)},
        )
    needed = f"{more} more" if more else "more"
    return DeniedError(
        f"{_shown(place)} holds {held} of the {quota.most} {resource} that its quota allows, and this needs "
        f"{needed}; delete what is not needed, or {_remedy(quota)}",
        detail=detail,
    )


def _shown(place: Place) -> str:
    return f"the namespace {place.name}" if place.is_namespace else place.name


def _remedy(quota: Quota) -> str:
    own = quota.resource == "bytes" and not quota.place.is_namespace
    command = "seatrial repo set --quota" if own else "seatrial quota set"
    return f"ask an administrator to raise the quota ({command})"
