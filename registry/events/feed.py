"""The feed: all events in the order of their positions, read on from a cursor after hours or after days."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, func, select

from registry.auth.access import require, require_auditor
from registry.auth.policy import may_audit
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
_LOOKED_AT = 5000
"""So many events a step looks at, however few of them are asked for."""
_CURSOR_DIGITS = 17
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the feed: of one repository (or of all, for auditors), and of kinds that match one of these
    patterns (none: of all)."""

    repository: str | None = None
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FeedPage:
    """A part of the feed. ``cursor`` is where to go on, also where there was nothing. ``missed``: some events
    after the cursor that was given are no longer kept. ``more``: there is more already."""

    items: Sequence[Told]
    cursor: str
    missed: bool
    more: bool


async def read(database: Database, *, actor: Actor, asked: Asked, after: str | None, limit: int) -> FeedPage:
    """At most ``limit`` events after the cursor; without one from the oldest, with ``now`` none of before.

    Raises:
        UnauthorizedError, DeniedError: the actor may not pull from the repository, or is no auditor.
        NameUnknownError: there is no such repository, and the actor may know it.
        RequestInvalidError: ``after`` is no cursor.
    """
    since = await _require_right(database, actor, asked.repository)
    start = _position(after)
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
            return FeedPage((), str(max(newest, start)), missed=_missed(after, start, gone), more=False)
        query = select(events).where(
            events.c.position > start, events.c.position <= last, events.c.at >= since
        )
        if asked.repository is not None:
            query = query.where(events.c.repository == asked.repository)
        rows = await connection.execute(query.order_by(events.c.position))
        kinds = asked.kinds or ("*",)
        readable = ("*",) if may_audit(actor) else READABLE
        items: list[Told] = []
        for row in rows:
            if matches(kinds, row.kind) and matches(readable, row.kind):
                items.append(_told(row))
                if len(items) == limit:
                    last = row.position
                    break
    missed = _missed(after, start, gone)
    return FeedPage(items, str(last), missed=missed, more=last < newest)


def _missed(after: str | None, start: int, gone: int | None) -> bool:
    return after is not None and start < (gone or 0)


async def _require_right(database: Database, actor: Actor, repository: str | None) -> datetime:
    """From when on the actor may read."""
    if may_audit(actor):
        return _FIRST
    if repository is None:
        require_auditor(actor, "read the events of all repositories")
        return _FIRST
    query = select(repositories.c.visibility).where(repositories.c.name == repository)
    buried = select(tombstones.c.deleted_at).where(tombstones.c.name == repository)
    async with database.read() as connection:
        visibility = (await connection.execute(query)).scalar_one_or_none()
        # What happened in an earlier repository of the same name is not theirs to know.
        given_up = (await connection.execute(buried)).scalar_one_or_none()
    require(actor, "pull", repository, visibility)
    if visibility is None:
        raise NameUnknownError(f"there is no repository {repository}")
    return given_up or _FIRST


def _position(after: str | None) -> int | None:
    if after is None:
        return 0
    if after == NOW:
        return None
    if not (after.isascii() and after.isdigit() and len(after) <= _CURSOR_DIGITS):
        raise RequestInvalidError(f"{after[:80]!r} is no cursor of the feed; 'now' begins with what comes")
    return int(after)


def _told(row: Row[Any]) -> Told:
    same = ("position", "kind", "at", "repository", "target", "actor", "actor_kind", "decision", "rule")
    return Told(data=json.loads(row.data), **{name: getattr(row, name) for name in same})
