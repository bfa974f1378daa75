"""Promotions as their rows say: looked at, listed, held, and forgotten when they are long over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import select

from registry.auth.access import require_auditor
from registry.auth.policy import decide
from registry.content import repositories as repos
from registry.content.administration import find
from registry.db.content import repositories
from registry.db.promotions import promotions
from registry.db.sweeping import sweep
from registry.db.types import db_time
from registry.errors import NotFoundError

if TYPE_CHECKING:
    from sqlalchemy import Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.db.engine import Database

Standing = Literal["requested", "promoted", "ended", "expired", "undone"]
_KEPT = timedelta(days=30)
"""After its life a request that was not granted is kept so long."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """A promotion, or the request for one. ``source`` is null for those who may not pull from there, and
    ``old_digest`` where the tag was not there."""

    id: int
    repository: str
    tag: str
    digest: str
    old_digest: str | None
    source: str | None
    standing: Standing
    reason: str
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    promoted_by: str | None
    promoted_at: datetime | None
    ended_by: str | None
    ended_at: datetime | None
    undone_by: str | None
    undone_at: datetime | None


async def show(database: Database, *, actor: Actor, number: int) -> Promotion:
    """One promotion, for those who may pull from where it goes.

    Raises:
        NotFoundError: there is none, or it is not for the actor to know.
    """
    return _promotion(await find_row(database, actor, number), actor)


async def list_promotions(
    database: Database, *, actor: Actor, name: str | None, limit: int, before: int | None
) -> list[Promotion]:
    """At most ``limit`` promotions, the newest first, with an id below ``before``: into a repository, for
    those who may pull from it; or all.

    Raises:
        UnauthorizedError, DeniedError: the actor may not pull there; of all, is no administrator or auditor.
        NameUnknownError: there is no such repository.
    """
    query = _PROMOTIONS
    if name is not None:
        await find(database, actor=actor, action="pull", name=name)
        query = query.where(repositories.c.name == name)
    else:
        require_auditor(actor, "see the promotions into all repositories")
    if before is not None:
        query = query.where(promotions.c.id < before)
    async with database.read_once() as connection:
        rows = await connection.execute(query.order_by(promotions.c.id.desc()).limit(limit))
        return [_promotion(row, actor) for row in rows]


async def sweep_requests(database: Database) -> int:
    """Delete requests that were not granted and are long over; the audit trail has them. Returns how many."""
    over = promotions.c.promoted_at.is_(None) & (promotions.c.expires_at <= db_time(-_KEPT))
    return await sweep(database, promotions.c.id, over)


async def find_row(database: Database, actor: Actor, number: int) -> Row[Any]:
    """A promotion's row, with the names and visibilities of both repositories, and ``now``.

    Raises:
        NotFoundError: there is none, or the actor may not pull from where it goes.
    """
    async with database.read_once() as connection:
        found = await connection.execute(_PROMOTIONS.where(promotions.c.id == number))
        row: Row[Any] | None = found.first()
    if row is None or not decide(actor, "pull", row.repository, row.visibility).allowed:
        raise NotFoundError(f"there is no promotion {number}, or it is not yours to see")
    return row


async def lock_row(connection: AsyncConnection, number: int) -> Row[Any]:
    """The row as :func:`find_row` has it, with the lock of the repository that it goes into.

    Raises:
        NotFoundError: there is none.
    """
    into = select(promotions.c.repository_id).where(promotions.c.id == number)
    repository_id = (await connection.execute(into)).scalar_one_or_none()
    if repository_id is not None:
        await repos.lock(connection, repository_id)
        this = _PROMOTIONS.where(promotions.c.id == number).with_for_update(of=promotions)
        row: Row[Any] | None = (await connection.execute(this)).first()
        if row is not None:
            return row
    raise NotFoundError(f"there is no promotion {number}, or it is not yours to see")


async def show_in(connection: AsyncConnection, actor: Actor, number: int) -> Promotion:
    """A promotion that is there, in the caller's transaction."""
    row = (await connection.execute(_PROMOTIONS.where(promotions.c.id == number))).one()
    return _promotion(row, actor)


def standing_of(row: Row[Any]) -> Standing:
    """How it stands with a promotion now."""
    if row.undone_at is not None:
        return "undone"
    if row.promoted_at is not None:
        return "promoted"
    if row.ended_at is not None:
        return "ended"
    return "expired" if row.expires_at <= row.now else "requested"


def sees_source(actor: Actor, row: Row[Any]) -> bool:
    """Whether the actor may pull from where it comes from; what is gone is as what was never there."""
    return decide(actor, "pull", row.source_name or row.source, row.source_visibility).allowed


def _promotion(row: Row[Any], actor: Actor) -> Promotion:
    source = None
    if sees_source(actor, row):
        name = row.source_name or row.source
        source = f"{name}:{row.source_tag}" if row.source_tag else f"{name}@{row.digest}"
    values = {name: getattr(row, name) for name in Promotion.__dataclass_fields__ if name in row._fields}
    return Promotion(**{**values, "source": source, "standing": standing_of(row)})


_SOURCES = repositories.alias("sources")
_PROMOTIONS: Select[Any] = (
    select(
        promotions,
        repositories.c.name.label("repository"),
        repositories.c.visibility,
        _SOURCES.c.name.label("source_name"),
        _SOURCES.c.visibility.label("source_visibility"),
        db_time().label("now"),
    )
    .join(repositories, repositories.c.id == promotions.c.repository_id)
    .outerjoin(_SOURCES, _SOURCES.c.id == promotions.c.source_id)
)
