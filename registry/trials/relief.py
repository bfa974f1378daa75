"""What lets pass for a while what the gate would refuse: waivers of a repository, a pause of its namespace.

It is looked for only where an image is not simply admitted, so that a good one costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, or_, select, true

from registry.auth.policy import namespaces_above
from registry.db.access import namespaces
from registry.db.content import edges, manifests
from registry.db.dialect import batches
from registry.db.gate import pauses, waivers
from registry.db.types import db_time

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import ColumnElement, Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.content.repositories import Repository
    from registry.db.engine import Database

WAIVERS_MAX = 200
"""How many waivers of a repository are live at once."""
CHILDREN_MAX = 20_000


@dataclass(frozen=True, slots=True)
class LiveWaiver:
    """A waiver that somebody granted and that has not ended. Without ``digest`` it is for all images."""

    id: int
    digest: str | None
    states: Collection[str]
    reason: str
    granted_by: str
    expires_at: datetime

    @property
    def text(self) -> str:
        """How it is named where it decides."""
        until = self.expires_at.strftime("%Y-%m-%d %H:%M")
        return f"waiver {self.id}, granted by {self.granted_by} until {until} UTC: {self.reason}"


@dataclass(frozen=True, slots=True)
class LivePause:
    """That the gate of a namespace only warns for a while."""

    namespace: str
    until: datetime
    reason: str
    actor: str

    @property
    def text(self) -> str:
        """How it is named where it decides."""
        until = self.until.strftime("%Y-%m-%d %H:%M")
        return f"the gate of {self.namespace}/ is paused until {until} UTC by {self.actor}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Relief:
    """What there is of it in a repository at the time ``now``. ``listed_by`` has for what waived indexes list
    the digests of those."""

    now: datetime
    waivers: tuple[LiveWaiver, ...]
    listed_by: Mapping[str, Collection[str]]
    pause: LivePause | None

    def waiver_for(self, digest: str, state: str) -> LiveWaiver | None:
        """The waiver that lets an image in this state pass, the longest one."""
        named = {None, digest, *self.listed_by.get(digest, ())}
        return next((one for one in self.waivers if one.digest in named and state in one.states), None)

    @property
    def digests(self) -> Collection[str]:
        """The images that waivers name, and what is listed by those that are indexes."""
        return {one.digest for one in self.waivers if one.digest is not None} | self.listed_by.keys()

    @property
    def ends(self) -> list[datetime | None]:
        """When any of it is over."""
        ends: list[datetime | None] = [one.expires_at for one in self.waivers]
        return [*ends, None if self.pause is None else self.pause.until]


async def relief_of(database: Database, repository: Repository) -> Relief:
    """What lets pass in a repository now what the gate would refuse."""
    async with database.read() as connection:
        return await relief_in(connection, repository.id, repository.name)


async def relief_in(connection: AsyncConnection, repository_id: int, name: str) -> Relief:
    """As :func:`relief_of`, inside a transaction."""
    now = (await connection.execute(select(db_time()))).scalar_one()
    live = select(
        waivers.c.id,
        waivers.c.digest,
        waivers.c.states,
        waivers.c.reason,
        waivers.c.granted_by,
        waivers.c.expires_at,
    ).where(
        waivers.c.repository_id == repository_id,
        waivers.c.expires_at > now,
        waivers.c.granted_at.is_not(None),
        waivers.c.ended_at.is_(None),
    )
    rows = await connection.execute(live.order_by(waivers.c.expires_at.desc()).limit(WAIVERS_MAX))
    found = tuple(
        LiveWaiver(**{**row._asdict(), "states": frozenset(json.loads(row.states))}) for row in rows
    )
    named = {one.digest for one in found if one.digest is not None}
    listed_by = await _listed_by(connection, repository_id, named)
    return Relief(now, found, listed_by, await _pause(connection, name, now))


@dataclass(frozen=True, slots=True)
class ImageRelief:
    """What there is of it for one image; and ``of_findings``, rows of ``waivers``, that excuse what was found
    in it, the one that ends last first."""

    relief: Relief
    of_findings: Sequence[Row[Any]]


async def relief_of_images(
    database: Database, repository: Repository, digests: Sequence[str]
) -> Sequence[ImageRelief]:
    """What lets pass each of a few images of a repository now, also what names an index that lists it; one
    statement."""
    given = {
        "repository_id": repository.id,
        "above": namespaces_above(repository.name),
        **{f"digest_{number}": digest for number, digest in enumerate(digests)},
    }
    async with database.read_once() as connection:
        rows = (await connection.execute(_relieving(len(digests)), given)).all()
    first = rows[0]
    paused = None
    if first.pause_name is not None:
        paused = LivePause(first.pause_name, first.pause_until, first.pause_reason, first.pause_actor)
    found = []
    for number, digest in enumerate(digests):
        its = [row for row in rows if row.id is not None and getattr(row, f"counts_for_{number}")]
        live_ones = tuple(
            LiveWaiver(
                row.id,
                row.digest,
                frozenset(json.loads(row.states)),
                row.reason,
                row.granted_by,
                row.expires_at,
            )
            for row in its
        )
        listed_by = {digest: {one.digest for one in live_ones if one.digest is not None}}
        relief = Relief(first.now, live_ones, listed_by, paused)
        found.append(ImageRelief(relief, [row for row in its if row.finding is not None]))
    return found


@cache
def _relieving(count: int) -> Select[Any]:
    """Rows of the waivers of so many images, with the pause and the time; one at least. Kept, since to put it
    together takes longer than the query itself."""
    moment = select(db_time().label("now")).subquery("moment")
    pause = _pauses(bindparam("above", expanding=True), db_time()).subquery("pause")
    counts_for = [is_for(bindparam("repository_id"), bindparam(f"digest_{n}")) for n in range(count)]
    live = (
        select(waivers, *(counts.label(f"counts_for_{number}") for number, counts in enumerate(counts_for)))
        .where(
            waivers.c.repository_id == bindparam("repository_id"),
            waivers.c.expires_at > db_time(),
            waivers.c.granted_at.is_not(None),
            waivers.c.ended_at.is_(None),
            or_(*counts_for),
        )
        .order_by(waivers.c.expires_at.desc(), waivers.c.id)
        .limit(WAIVERS_MAX)
        .subquery("live")
    )
    return (
        select(moment.c.now, *(column.label(f"pause_{column.name}") for column in pause.c), *live.c)
        .select_from(moment)
        .outerjoin(pause, true())
        .outerjoin(live, true())
        .order_by(live.c.expires_at.desc(), live.c.id)
    )


def is_for(repository_id: Any, digest: Any) -> ColumnElement[bool]:
    """Whether a waiver of the repository is for this image: for all of them, or an index that lists it."""
    listing = (
        select(manifests.c.digest)
        .join(edges, edges.c.manifest_id == manifests.c.id)
        .where(manifests.c.repository_id == repository_id, edges.c.digest == digest, edges.c.kind == "child")
    )
    return or_(waivers.c.digest.is_(None), waivers.c.digest == digest, waivers.c.digest.in_(listing))


async def pause_of(database: Database, name: str) -> LivePause | None:
    """The pause that counts in the repository ``name`` now, the longest one."""
    async with database.read() as connection:
        now = (await connection.execute(select(db_time()))).scalar_one()
        return await _pause(connection, name, now)


async def _listed_by(
    connection: AsyncConnection, repository_id: int, digests: Collection[str]
) -> Mapping[str, Collection[str]]:
    found: dict[str, set[str]] = {}
    for batch in batches(sorted(digests)):
        rows = await connection.execute(
            select(manifests.c.digest, edges.c.digest)
            .join(edges, edges.c.manifest_id == manifests.c.id)
            .where(
                manifests.c.repository_id == repository_id,
                manifests.c.digest.in_(batch),
                edges.c.kind == "child",
            )
            .limit(CHILDREN_MAX)
        )
        for parent, child in rows:
            found.setdefault(child, set()).add(parent)
    return found


async def _pause(connection: AsyncConnection, repository: str, now: datetime) -> LivePause | None:
    above = namespaces_above(repository)
    if not above:
        return None
    row = (await connection.execute(_pauses(above, now))).first()
    return None if row is None else LivePause(*row)


def _pauses(above: Any, now: Any) -> Select[Any]:
    return (
        select(namespaces.c.name, pauses.c.until, pauses.c.reason, pauses.c.actor)
        .join(pauses, pauses.c.namespace_id == namespaces.c.id)
        .where(namespaces.c.name.in_(above), pauses.c.until > now)
        .order_by(pauses.c.until.desc())
        .limit(1)
    )
