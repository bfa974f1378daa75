"""Caps on what a namespace or an actor has tried: how much waits, and the seconds of runs within an hour.

What somebody asks for beyond one is refused; what is pushed waits until it may be run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update

from registry.auth.actor import REGISTRY
from registry.auth.policy import namespaces_above
from registry.content.blocks import below
from registry.db.access import namespaces
from registry.db.content import repositories
from registry.db.dialect import insert_ignoring_conflict
from registry.db.trials import parts, trial_seconds, trials
from registry.db.types import db_time
from registry.db.upstreams import upstream_copies
from registry.errors import TooManyRequestsError
from registry.trials.scheduling import QUEUED

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.settings import Settings

SLOT_SECONDS = 300
"""Seconds of runs are added up for so long, and are forgotten together."""
QUEUE_RETRY_SECONDS = 60
REPORT_MAX_SECONDS = 24 * 3600.0
"""So much of one report counts: a worker may say anything, and there are no sums of the largest numbers."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cap:
    """What a ``place`` may have: a namespace, with a slash at its end, or an actor. ``None``: any."""

    place: str
    queue_max: int | None
    seconds_per_hour: int | None


def charged(actor: Actor) -> str | None:
    """To whom it is charged what an actor has tried; ``None``: to nobody but the namespace."""
    return None if actor == REGISTRY else actor.shown


def counts_until(now: datetime) -> datetime:
    """Until when seconds count that are spent now: an hour, to the end of the slot."""
    slots = (now - _EPOCH) // timedelta(seconds=SLOT_SECONDS)
    return _EPOCH + (slots + 1) * timedelta(seconds=SLOT_SECONDS) + timedelta(hours=1)


def free_at(spent: Iterable[tuple[datetime, float]], cap: float) -> datetime | None:
    """When less than the cap counts of what was spent, each part of which counts until its time; ``None``:
    it does now."""
    left = sorted(spent)
    total = sum(seconds for _, seconds in left)
    at = None
    for until, seconds in left:
        if total < cap:
            break
        total -= seconds
        at = until
    return at


async def require_room(
    connection: AsyncConnection, settings: Settings, *, repository: str, actor: Actor
) -> None:
    """Let an actor ask for a trial. What others ask at the same moment is not seen.

    Raises:
        TooManyRequestsError: a cap is reached; ``Retry-After`` says when to ask again.
    """
    for cap in await _caps_of(connection, settings, repository, charged(actor)):
        if cap.queue_max is not None and await _queued(connection, cap) >= cap.queue_max:
            raise TooManyRequestsError(
                f"{_shown(cap.place)} has as many images waiting to be tried as it may: {cap.queue_max}",
                headers={"Retry-After": str(QUEUE_RETRY_SECONDS)},
            )
        if cap.seconds_per_hour is not None:
            await _require_seconds(connection, cap.place, cap.seconds_per_hour)


async def spend(connection: AsyncConnection, settings: Settings, part_id: str, seconds: float) -> None:
    """Count seconds that runs of a part took, where there is a cap on them."""
    query = select(repositories.c.name, parts.c.asked_by, db_time().label("now"))
    query = query.join(repositories, repositories.c.id == parts.c.repository_id)
    row = (await connection.execute(query.where(parts.c.id == part_id))).one()
    caps = await _caps_of(connection, settings, row.name, row.asked_by)
    # In one order: others count for the same places.
    for place in sorted(cap.place for cap in caps if cap.seconds_per_hour is not None):
        values = {"place": place, "counts_until": counts_until(row.now), "seconds": 0.0}
        here = trial_seconds.c.place == place
        await connection.execute(insert_ignoring_conflict(connection, trial_seconds, values))
        await connection.execute(
            update(trial_seconds)
            .where(here, trial_seconds.c.counts_until == values["counts_until"])
            .values(seconds=trial_seconds.c.seconds + min(seconds, REPORT_MAX_SECONDS))
        )
        await connection.execute(delete(trial_seconds).where(here, trial_seconds.c.counts_until < row.now))


async def within_caps(
    connection: AsyncConnection, settings: Settings, runnable: ColumnElement[bool]
) -> ColumnElement[bool]:
    """Of the parts that can be run, those of which no cap on seconds is reached."""
    reached = await find_reached(connection, settings)
    within = [below(repositories.c.name, place) for place in reached if place.endswith("/")]
    actors = [place for place in reached if not place.endswith("/")]
    if within:
        here = (repositories.c.id == parts.c.repository_id, or_(*within))
        runnable = and_(runnable, ~select(repositories.c.id).where(*here).exists())
    if actors:
        # "/" is nobody's name.
        runnable = and_(runnable, func.coalesce(parts.c.asked_by, "/").not_in(actors))
    return runnable


async def find_reached(connection: AsyncConnection, settings: Settings) -> Mapping[str, str]:
    """The places whose cap on seconds is reached, and for each that it is, in words."""
    total = func.sum(trial_seconds.c.seconds).label("seconds")
    query = select(trial_seconds.c.place, total).where(trial_seconds.c.counts_until > db_time())
    spent = (await connection.execute(query.group_by(trial_seconds.c.place))).all()
    if not spent:
        return {}
    said = select(namespaces.c.name, namespaces.c.trial_seconds_per_hour)
    rows = await connection.execute(said.where(namespaces.c.trial_seconds_per_hour.is_not(None)))
    caps = {f"{row.name}/": row.trial_seconds_per_hour for row in rows}
    reached = {}
    for place, seconds in spent:
        cap = caps.get(place, _default(settings, place).seconds_per_hour)
        if cap is not None and seconds >= cap:
            reached[place] = f"waits: {_spent(place, seconds, cap)}"
    return reached


def why_held(reached: Mapping[str, str], repository: str, asked_by: str | None) -> str:
    """Why a part of a repository is not run now; empty: no cap says so."""
    places = _places(repository, asked_by)
    return next((reached[place] for place in places if place in reached), "")


async def _require_seconds(connection: AsyncConnection, place: str, cap: int) -> None:
    query = select(trial_seconds.c.counts_until, trial_seconds.c.seconds, db_time().label("now"))
    here = (trial_seconds.c.place == place, trial_seconds.c.counts_until > db_time())
    rows = (await connection.execute(query.where(*here))).all()
    at = free_at([(row.counts_until, row.seconds) for row in rows], cap)
    if at is not None:
        raise TooManyRequestsError(
            _spent(place, sum(row.seconds for row in rows), cap),
            headers={"Retry-After": str(max(1, ceil((at - rows[0].now).total_seconds())))},
        )


async def _queued(connection: AsyncConnection, cap: Cap) -> int:
    """How much of the place waits, in the queue or for a copy of its image, each counted to the cap."""
    queued = select(parts.c.id).where(QUEUED)
    copied = select(trials.c.id).join(upstream_copies, upstream_copies.c.trial_id == trials.c.id)
    copied = copied.where(upstream_copies.c.run_after.is_not(None))
    if cap.place.endswith("/"):
        here = below(repositories.c.name, cap.place)
        queued = queued.join(repositories, repositories.c.id == parts.c.repository_id).where(here)
        copied = copied.join(repositories, repositories.c.id == trials.c.repository_id).where(here)
    else:
        queued = queued.where(parts.c.asked_by == cap.place)
        copied = copied.where(trials.c.created_by == cap.place)
    waiting = 0
    for found in (queued, copied):
        counted = select(func.count()).select_from(found.limit(cap.queue_max).subquery())
        waiting += (await connection.execute(counted)).scalar_one()
    return waiting


async def _caps_of(
    connection: AsyncConnection, settings: Settings, repository: str, asked_by: str | None
) -> Sequence[Cap]:
    """The caps that hold for what is tried in a repository and charged to an actor."""
    query = select(namespaces.c.name, namespaces.c.trial_queue_max, namespaces.c.trial_seconds_per_hour)
    rows = await connection.execute(query.where(namespaces.c.name.in_(namespaces_above(repository))))
    said = {f"{row.name}/": row for row in rows}
    caps = []
    for place in _places(repository, asked_by):
        default, row = _default(settings, place), said.get(place)
        queue, seconds = (None, None) if row is None else (row.trial_queue_max, row.trial_seconds_per_hour)
        caps.append(
            Cap(
                place,
                default.queue_max if queue is None else queue,
                default.seconds_per_hour if seconds is None else seconds,
            )
        )
    return caps


def _places(repository: str, asked_by: str | None) -> Collection[str]:
    above = [f"{name}/" for name in namespaces_above(repository)]
    return above if asked_by is None else [*above, asked_by]


def _default(settings: Settings, place: str) -> Cap:
    """What holds where nothing else is said: for each actor, and each namespace that is in no other."""
    if not place.endswith("/"):
        given = (settings.trial_queue_max_of_actor, settings.trial_seconds_per_hour_of_actor)
    elif place.count("/") == 1:
        given = (settings.trial_queue_max, settings.trial_seconds_per_hour)
    else:
        given = (0, 0)
    return Cap(place, given[0] or None, given[1] or None)


def _spent(place: str, seconds: float, cap: int) -> str:
    return f"{_shown(place)} has had {seconds:.0f} s of runs within an hour, and may have {cap}"


def _shown(place: str) -> str:
    return f"the namespace {place.removesuffix('/')}" if place.endswith("/") else place
