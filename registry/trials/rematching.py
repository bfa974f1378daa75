"""All packages matched again when another file of advisories counts, and images told of what changed.

No image is touched for it. It goes in steps, each a transaction, with a lease: where the replica that is at
it ends, another one goes on. First packages are matched, and their rows, what changed and which images hold
them written down at once; then each image is told of all that changed in it, once: an event, and a row of
``rejudgings``. That row asks whoever decides by findings to judge the image by its matches of now, and to
delete the row in the transaction that does; it stands for all that changed until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from registry.auth.actor import REGISTRY
from registry.db.matchings import changed_images, matchings
from registry.db.outbox import record
from registry.db.scans import components
from registry.db.types import db_time
from registry.errors import NotFoundError
from registry.trials.matcher import parse_status
from registry.trials.matching import Behind, begin, behind, by_id, number_of, write
from registry.trials.telling import IMAGES_AT_ONCE, Told, forget_told, tell_some

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.db.engine import Database
    from registry.trials.matcher import Facts, Matcher

LEASE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the matching is by the file of advisories that counts: ``left`` packages are to be matched, and
    ``untold`` images told of what changed. ``matched``, ``changed`` and ``images`` are what it has come to:
    packages, those of them with other matches than before, and images of which there is an event.
    ``oldest_at`` is when the oldest source of the file was as it is there."""

    generation: str
    oldest_at: datetime | None
    begun_at: datetime
    ended_at: datetime | None
    matched: int
    changed: int
    images: int
    left: int
    untold: int


async def progress_of(database: Database) -> Progress | None:
    """How far the matching is; ``None``: there never was a file."""
    left = select(func.count()).where(components.c.matching < matchings.c.id).scalar_subquery()
    untold = select(func.count()).select_from(changed_images).scalar_subquery()
    query = select(matchings, left.label("left"), untold.label("untold"))
    async with database.read_once() as connection:
        row = (await connection.execute(query.order_by(matchings.c.id.desc()).limit(1))).first()
    if row is None:
        return None
    sources = parse_status(row.generation, row.sources).sources
    same = {name: getattr(row, name) for name in Progress.__dataclass_fields__ if name != "oldest_at"}
    return Progress(oldest_at=min((one.as_of for one in sources), default=None), **same)


async def ask(database: Database, matcher: Matcher, *, actor: Actor) -> Progress:
    """Let the file of this replica count from now on, whichever counted before, and have all packages matched
    with it again.

    Raises:
        NotFoundError: there is no file here that can be read.
    """
    facts = await matcher.facts()
    if facts is None:
        raise NotFoundError("there is no file of advisories on this host that can be read")
    async with database.write() as connection:
        await begin(connection, facts, actor=actor, by_hand=True)
    progress = await progress_of(database)
    assert progress is not None
    return progress


class _TakenOverError(Exception):
    """Another replica is at it now, or another file counts."""


async def catch_up(database: Database, matcher: Matcher) -> int:
    """Match what has not been matched by this replica's file of advisories, if that is the one that counts,
    and tell the images; how many. Writes nothing where nothing is to be done."""
    facts = await matcher.facts()
    if facts is None:
        return 0
    number = await number_of(database, facts)
    lease = None if number is None else await _claim(database, number)
    if number is None or lease is None:
        return 0
    told = 0
    try:
        lease = await _match_all(database, matcher, facts, number, lease)
        while True:
            lease, some = await _tell_some(database, number, lease)
            told += some.events
            if some.images < IMAGES_AT_ONCE:
                break
        await forget_told(database)
        await _end(database, number, lease)
    except _TakenOverError:
        pass
    return told


async def _claim(database: Database, number: int) -> datetime | None:
    """Take the matching, if it is the newest, nobody is at it, and there is something to do."""
    is_left = matchings.c.ended_at.is_(None) | behind(number).exists() | _UNTOLD.exists()
    free = (*_newest(number), matchings.c.leased_until <= db_time(), is_left)
    async with database.read_once() as connection:
        if (await connection.execute(select(matchings.c.id).where(*free))).first() is None:
            return None
    async with database.write() as connection:
        taken = update(matchings).where(*free).values(leased_until=db_time(LEASE))
        row = (await connection.execute(taken.returning(matchings.c.leased_until))).first()
    return None if row is None else row.leased_until


async def _match_all(
    database: Database, matcher: Matcher, facts: Facts, number: int, lease: datetime
) -> datetime:
    while True:
        async with database.read_once() as connection:
            some = [Behind(*row) for row in await connection.execute(behind(number))]
        if not some:
            return lease
        found = await matcher.look_up(facts.generation, some)
        if found is None:
            raise _TakenOverError
        async with database.write() as connection:
            lease = await _renew(connection, number, lease)
            counted = await write(connection, number, by_id(some, found))
            await _count(connection, number, matched=counted.matched, changed=counted.changed)


async def _tell_some(database: Database, number: int, lease: datetime) -> tuple[datetime, Told]:
    async with database.read_once() as connection:
        if (await connection.execute(_UNTOLD)).first() is None:
            return lease, Told(0, 0)
    async with database.write() as connection:
        lease = await _renew(connection, number, lease)
        told = await tell_some(connection)
        await _count(connection, number, images=told.events)
    return lease, told


async def _end(database: Database, number: int, lease: datetime) -> None:
    """Write down that all is done, unless there is more to do by now; let others at it."""
    async with database.write() as connection:
        await _renew(connection, number, lease)
        this = update(matchings).where(matchings.c.id == number)
        is_left = behind(number).exists() | _UNTOLD.exists()
        ended = this.where(matchings.c.ended_at.is_(None), ~is_left).values(ended_at=db_time())
        row = (await connection.execute(ended.returning(*_COUNTED))).first()
        await connection.execute(this.values(leased_until=db_time()))
        if row is not None:
            await record(connection, "matching.ended", None, REGISTRY, {"matching": number, **row._asdict()})


async def _renew(connection: AsyncConnection, number: int, lease: datetime) -> datetime:
    """Hold the matching until the transaction ends, and the lease for longer.

    Raises:
        _TakenOverError: another replica is at it now, or another file counts.
    """
    mine = update(matchings).where(*_newest(number), matchings.c.leased_until == lease)
    renewed = mine.values(leased_until=db_time(LEASE)).returning(matchings.c.leased_until)
    until: datetime | None = (await connection.execute(renewed)).scalar()
    if until is None:
        raise _TakenOverError
    return until


async def _count(connection: AsyncConnection, number: int, **more: int) -> None:
    sums = {name: matchings.c[name] + count for name, count in more.items()}
    await connection.execute(update(matchings).where(matchings.c.id == number).values(sums))


def _newest(number: int) -> tuple[ColumnElement[bool], ...]:
    later = matchings.alias("later")
    return (matchings.c.id == number, ~select(later.c.id).where(later.c.id > number).exists())


_UNTOLD = select(changed_images.c.manifest_id).limit(1)
_COUNTED = (matchings.c.generation, matchings.c.matched, matchings.c.changed, matchings.c.images)
