"""Schedules: when images with an old verdict are tried again, and trying them when it is time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import and_, delete, insert, literal, or_, select, tuple_, update
from sqlalchemy.exc import SQLAlchemyError

from registry.auth.places import find_place, hold_columns, parse_place, require_fewer
from registry.content import repositories as repos
from registry.content.administration import require_place
from registry.content.blocks import below
from registry.content.recurring import following, parse_time
from registry.db.access import namespaces
from registry.db.content import manifests, repositories, tags
from registry.db.engine import move_epoch
from registry.db.outbox import record
from registry.db.placed import with_place
from registry.db.schedules import schedules
from registry.db.trials import trials
from registry.db.types import Id, db_time
from registry.errors import ConflictError, NotFoundError, RequestInvalidError, SeatrialError
from registry.events.webhooks import may_manage
from registry.trials.requests import ask_anew
from registry.trials.scheduling import SCHEDULED

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select

    from registry.auth.actor import Actor
    from registry.db.engine import Database
    from registry.settings import Settings

_log = structlog.get_logger("seatrial.schedules")
SCHEDULES_MAX = 10
"""On one place."""
AT_ONCE = 20
"""How many images of a repository are asked for in one transaction: pushes to it wait for that."""
JUDGED = ("pass", "warn", "fail", "error")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Images that a tag names are tried again every so many hours, or each day ``at`` a time of UTC, where
    their verdict is older than ``older_hours`` then."""

    id: int
    on: str
    every_hours: int | None
    at: str | None
    older_hours: int
    next_at: datetime
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Wanted:
    """A schedule to make: ``every_hours``, or ``at`` (``HH:MM``). ``older_hours``: ``None`` is half of the
    time between two."""

    every_hours: int | None
    at: str | None
    older_hours: int | None


@dataclass(frozen=True, slots=True)
class _Due:
    id: int
    repository_id: int | None
    namespace: str | None
    every_hours: int | None
    at_minute: int | None
    older_hours: int
    next_at: datetime
    now: datetime


async def create(database: Database, *, actor: Actor, on: str, wanted: Wanted) -> Schedule:
    """Have images of a repository, or of all in a namespace (with a slash at its end), tried again and again:
    for the first time at once, or when it is ``at``.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of the place.
        NameUnknownError, NotFoundError: there is no such place.
        RequestInvalidError: not one of the two, or out of range.
        ConflictError: the place has as many as it may, or this one already.
    """
    place = await require_place(database, actor=actor, action="configure", on=on)
    if (wanted.every_hours is None) == (wanted.at is None):
        raise RequestInvalidError("a schedule has every_hours, or at, and not both")
    at_minute = None if wanted.at is None else parse_time(wanted.at)
    older = (wanted.every_hours or 24) // 2 if wanted.older_hours is None else wanted.older_hours
    async with database.write() as connection:
        columns = await hold_columns(connection, place)
        equal = select(schedules.c.id).where(
            *(schedules.c[name] == value for name, value in columns.items()),
            schedules.c.every_hours.is_not_distinct_from(wanted.every_hours),
            schedules.c.at_minute.is_not_distinct_from(at_minute),
            schedules.c.older_hours == older,
        )
        there = (await connection.execute(equal)).scalars().first()
        if there is not None:
            raise ConflictError(f"{on} has this schedule already; it is schedule {there}")
        await require_fewer(connection, schedules, columns, most=SCHEDULES_MAX)
        now = (await connection.execute(select(db_time()))).scalar_one()
        values = {
            **columns,
            "every_hours": wanted.every_hours,
            "at_minute": at_minute,
            "older_hours": older,
            "next_at": now
            if at_minute is None
            else following(now, now, every_hours=None, at_minute=at_minute),
            "created_by": actor.shown,
            "created_at": now,
        }
        made = await connection.execute(insert(schedules).values(values).returning(schedules.c.id))
        shown = _SHOWN.where(schedules.c.id == made.scalar_one())
        schedule = _schedule((await connection.execute(shown)).one())
        await record(connection, "schedule.created", place.key, actor, _told(schedule))
    return schedule


async def list_schedules(database: Database, *, actor: Actor, on: str) -> Sequence[Schedule]:
    """The schedules on a repository, or a namespace with a slash at its end; those above count as well.

    Raises:
        UnauthorizedError, DeniedError: the actor may not pull there.
        NameUnknownError, NotFoundError: there is no such place.
    """
    place = await require_place(database, actor=actor, action="pull", on=on)
    async with database.read() as connection:
        here = schedules.c[place.column] == await find_place(connection, place)
        rows = await connection.execute(_SHOWN.where(here).order_by(schedules.c.id))
        return [_schedule(row) for row in rows]


async def remove(database: Database, *, actor: Actor, schedule_id: int) -> None:
    """Have a schedule no longer; what is in the queue is tried.

    Raises:
        NotFoundError: there is none, or the actor may make none there.
    """
    missing = NotFoundError(f"there is no schedule {schedule_id} that you manage")
    this = _SHOWN.where(schedules.c.id == schedule_id)
    async with database.read_once() as connection:
        row = (await connection.execute(this)).first()
    # Who may not is not told so: the place may be a repository that is not for him to know.
    if row is None or not may_manage(actor, row.place):
        raise missing
    schedule = _schedule(row)
    async with database.write() as connection:
        await hold_columns(connection, parse_place(schedule.on))
        gone = await connection.execute(delete(schedules).where(schedules.c.id == schedule_id))
        if gone.rowcount == 0:
            raise missing
        await record(connection, "schedule.deleted", schedule.on, actor, _told(schedule))


async def run_due(database: Database, settings: Settings) -> int:
    """Queue again what schedules say that are due; how many images. Several processes may do it at once, and
    one that is killed leaves the rest to the next."""
    query = (
        select(
            schedules.c.id,
            schedules.c.repository_id,
            namespaces.c.name.label("namespace"),
            schedules.c.every_hours,
            schedules.c.at_minute,
            schedules.c.older_hours,
            schedules.c.next_at,
            db_time().label("now"),
        )
        .outerjoin(namespaces, namespaces.c.id == schedules.c.namespace_id)
        .where(schedules.c.next_at <= db_time())
        .order_by(schedules.c.next_at, schedules.c.id)
    )
    async with database.read_once() as connection:
        found = [_Due(*row) for row in await connection.execute(query)]
    queued = 0
    for due in found:
        try:
            queued += await _run(database, settings, due)
        except (SQLAlchemyError, SeatrialError, ArithmeticError, ValueError):
            # What is wrong with one says nothing about the others.
            _log.exception("a schedule could not be followed", schedule=due.id)
    return queued


async def _run(database: Database, settings: Settings, due: _Due) -> int:
    old = _is_old(due)
    place = tuple_(manifests.c.repository_id, manifests.c.id)
    first = select(*place.clauses).where(old).order_by(*place.clauses).limit(1)
    queued, after = 0, (0, 0)
    while True:
        async with database.read_once() as connection:
            after_that = place > tuple_(*(literal(number, Id) for number in after))
            found = (await connection.execute(first.where(after_that))).first()
        if found is None:
            break
        repository_id, first_id = found
        async with database.write() as connection:
            await repos.lock(connection, repository_id)
            still = select(schedules.c.id).where(schedules.c.id == due.id, schedules.c.next_at == due.next_at)
            if (await connection.execute(still)).first() is None:
                return queued
            # Again under the lock: another process may be at it as well.
            here = (manifests.c.repository_id == repository_id, manifests.c.id >= first_id)
            some = select(manifests.c.id, manifests.c.digest).where(*here, old)
            images = (await connection.execute(some.order_by(manifests.c.id).limit(AT_ONCE))).all()
            for image in images:
                await ask_anew(connection, settings, repository_id, image.digest, urgency=SCHEDULED)
            if images:
                await move_epoch(connection, "gate")
        queued += len(images)
        after = (repository_id, images[-1].id if images else first_id)
    at = following(due.next_at, due.now, every_hours=due.every_hours, at_minute=due.at_minute)
    async with database.write() as connection:
        this = (schedules.c.id == due.id, schedules.c.next_at == due.next_at)
        await connection.execute(update(schedules).where(*this).values(next_at=at))
    return queued


def _is_old(due: _Due) -> ColumnElement[bool]:
    """Images that a tag names, whose verdict is old enough, and that nobody has asked for since then."""
    before = due.next_at - timedelta(hours=due.older_hours)
    here = manifests.c.repository_id == due.repository_id
    if due.namespace is not None:
        within = select(repositories.c.id).where(below(repositories.c.name, f"{due.namespace}/"))
        here = manifests.c.repository_id.in_(within)
    asked = select(trials.c.id).where(
        trials.c.repository_id == manifests.c.repository_id,
        trials.c.digest == manifests.c.digest,
        or_(trials.c.state != "done", trials.c.created_at >= due.next_at),
    )
    return and_(
        here,
        manifests.c.state.in_(JUDGED),
        manifests.c.state_at <= before,
        manifests.c.blocked_reason.is_(None),
        select(tags.c.name).where(tags.c.manifest_id == manifests.c.id).exists(),
        ~asked.exists(),
    )


def _schedule(row: Any) -> Schedule:
    values = row._asdict()
    minute, place = values.pop("at_minute"), values.pop("place")
    return Schedule(**values, on=place, at=None if minute is None else f"{minute // 60:02}:{minute % 60:02}")


def _told(schedule: Schedule) -> dict[str, object]:
    return {
        "schedule": schedule.id,
        "every_hours": schedule.every_hours,
        "at": schedule.at,
        "older_hours": schedule.older_hours,
    }


_SHOWN: Select[Any] = with_place(
    schedules,
    schedules.c.id,
    schedules.c.every_hours,
    schedules.c.at_minute,
    schedules.c.older_hours,
    schedules.c.next_at,
    schedules.c.created_by,
    schedules.c.created_at,
)
