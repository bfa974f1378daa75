"""The feed: all events in the order of their positions, read on from a cursor after hours or after days."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, func, select

from registry.auth.access import require, require_auditor
from registry.auth.policy import decide, itself_and_above, may_audit
from registry.db.access import tombstones
from registry.db.content import repositories
from registry.db.events import audit_keeping, events
from registry.db.webhooks import event_feed
from registry.errors import NameUnknownError, RequestInvalidError
from registry.events.envelopes import Told
from registry.events.webhooks import matches

if TYPE_CHECKING:
    from registry.auth.actor import Actor
    from registry.db.engine import Database

NOW = "now"
READABLE = ("manifest.*", "tag.*", "trial.*", "verdict.*", "image.*", "repository.*", "blob.*")
"""What whoever may pull from a repository reads of it; the rest is for auditors."""
_TURNING = ("repository.changed", "repository.renamed", "namespace.renamed")
"""With which a repository may have become readable, or got its name."""
_LOOKED_AT = 5000
"""So many events a step looks at, however few of them are asked for."""
_CURSOR_DIGITS = 17
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FeedPage:
    """A part of the feed. ``cursor`` is where to go on, also where there was nothing. ``missed``: some events
    after the cursor that was given are no longer kept. ``more``: there is more already."""

    items: Sequence[Told]
    cursor: str
    missed: bool
    more: bool


async def follow(
    database: Database,
    looks: AsyncIterator[None],
    *,
    actor: Actor,
    repository: str | None,
    kinds: Sequence[str],
    cursor: str | None,
    limit: int,
) -> FeedPage:
    """As :func:`read`; where there is nothing, once more with each of the ``looks``.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError, RequestInvalidError: as :func:`read`.
    """
    missed, page = False, FeedPage((), cursor or "", missed=False, more=False)
    async for _ in looks:
        page = await read(
            database, actor=actor, repository=repository, kinds=kinds, cursor=cursor, limit=limit
        )
        missed |= page.missed
        if page.items or page.more:
            break
        cursor = page.cursor
    return replace(page, missed=missed)


async def read(
    database: Database,
    *,
    actor: Actor,
    repository: str | None = None,
    kinds: Sequence[str] = (),
    cursor: str | None,
    limit: int,
) -> FeedPage:
    """At most ``limit`` events after the cursor; without one from the oldest, with ``now`` none of before. Of
    one repository, or of all, for auditors; of kinds that match one of the patterns, or, with none, of all.

    Raises:
        UnauthorizedError, DeniedError: the actor may not pull from the repository, or is no auditor.
        NameUnknownError: there is no such repository, and the actor may know it.
        RequestInvalidError: no cursor.
    """
    since = await _require_right(database, actor, repository)
    start = _position(cursor)
    async with database.read() as connection:
        newest = (await connection.execute(select(event_feed.c.position))).scalar_one_or_none() or 0
        if start is None:
            return FeedPage((), str(newest), missed=False, more=False)
        gone = (await connection.execute(select(audit_keeping.c.removed_position))).scalar_one_or_none()
        end = (
            select(events.c.position)
            .where(events.c.position > start)
            .order_by(events.c.position)
            .limit(_LOOKED_AT)
            .subquery()
        )
        last = (await connection.execute(select(func.max(end.c.position)))).scalar_one()
        if last is None:
            return FeedPage((), str(max(newest, start)), missed=_missed(cursor, start, gone), more=False)
        query = select(events).where(
            events.c.position > start, events.c.position <= last, events.c.at >= since
        )
        if repository is not None:
            query = query.where(events.c.repository == repository)
        rows = await connection.execute(query.order_by(events.c.position))
        wanted = kinds or ("*",)
        readable = ("*",) if may_audit(actor) else READABLE
        items: list[Told] = []
        for row in rows:
            if matches(wanted, row.kind) and matches(readable, row.kind):
                items.append(_told(row, to_auditor=may_audit(actor)))
                if len(items) == limit:
                    last = row.position
                    break
    missed = _missed(cursor, start, gone)
    return FeedPage(items, str(last), missed=missed, more=last < newest)


def _missed(cursor: str | None, start: int, gone: int | None) -> bool:
    return cursor is not None and start < (gone or 0)


async def _require_right(database: Database, actor: Actor, repository: str | None) -> datetime:
    """From when on the actor may read."""
    if may_audit(actor):
        return _FIRST
    if repository is None:
        require_auditor(actor, "read the events of all repositories")
        return _FIRST
    query = select(repositories.c.visibility).where(repositories.c.name == repository)
    names = tuple(itself_and_above(repository))
    turning = (
        select(events.c.at, events.c.kind, events.c.data)
        # Not by the index of the name: there are few of these kinds, and a repository may have many events.
        .where(events.c.kind.in_(_TURNING), events.c.repository.concat("").in_(names))
        .order_by(events.c.at.desc())
    )
    buried = select(tombstones.c.deleted_at).where(tombstones.c.name == repository)
    async with database.read() as connection:
        visibility = (await connection.execute(query)).scalar_one_or_none()
        # What happened in an earlier repository of the same name is not theirs to know.
        given_up = (await connection.execute(buried)).scalar_one_or_none()
        turns = (await connection.execute(turning)).all()
    require(actor, "pull", repository, visibility)
    if visibility is None:
        raise NameUnknownError(f"there is no repository {repository}")
    by_role = decide(actor, "pull", repository, None).allowed
    since = (row.at for row in turns if _is_turn(row.kind, json.loads(row.data), by_role=by_role))
    return max(given_up or _FIRST, next(since, _FIRST))


def _is_turn(kind: str, data: Mapping[str, Any], *, by_role: bool) -> bool:
    """Whether before this a reader could not read it, or under another name."""
    return kind != "repository.changed" or (not by_role and "visibility" in data)


def _position(cursor: str | None) -> int | None:
    if cursor is None:
        return 0
    if cursor == NOW:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= _CURSOR_DIGITS):
        raise RequestInvalidError(f"{cursor[:80]!r} is no cursor of the feed; 'now' begins with what comes")
    return int(cursor)


def _told(row: Row[Any], *, to_auditor: bool) -> Told:
    same = ("position", "kind", "at", "repository", "target", "actor", "actor_kind", "decision", "rule")
    data = json.loads(row.data)
    if row.kind == "repository.renamed" and not to_auditor:
        data["name"][0] = None  # it may have been in a place that they do not know of
    return Told(data=data, **{name: getattr(row, name) for name in same})
