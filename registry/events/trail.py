"""The audit trail as its readers see it: by filter and time, page by page, and as a whole."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Integer, String, and_, literal, select, text, tuple_

from registry.auth.access import require, require_auditor
from registry.auth.policy import may_audit
from registry.db.access import tombstones
from registry.db.eventkinds import EventKind
from registry.db.events import events, pull_days
from registry.db.outbox import record
from registry.db.types import Id, UtcTime, db_time
from registry.errors import RequestInvalidError

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.engine import Row

    from registry.auth.actor import Actor
    from registry.db.engine import Database

Order = Literal["newest", "oldest"]
SETTLED_SECONDS = 10
"""Who reads on from the oldest sees a line so long after it was written: one that is written at the same time
may be committed later, and would be passed over."""
_EXPORTED_AT_ONCE = 500
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which lines: those of which all holds that is given. ``since`` is among them, ``until`` is not."""

    actor: str | None = None
    action: EventKind | None = None
    repository: str | None = None
    target: str | None = None
    token: str | None = None
    decision: Literal["allowed", "refused"] | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the trail. ``cursor`` is where a reader goes on who has seen it."""

    cursor: str
    id: int
    at: datetime
    action: str
    repository: str | None
    target: str | None
    actor: str
    actor_kind: str | None
    account_id: int | None
    token: str | None
    address: str | None
    client: str | None
    decision: str
    rule: str | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pulls:
    """How often somebody pulled a manifest in one day (of UTC); the rest is of the last time."""

    digest: str
    day: date
    repository: str
    actor: str
    count: int
    last_at: datetime
    address: str | None
    tag: str | None

    @property
    def cursor(self) -> str:
        """Where a reader goes on who has seen it."""
        return f"{(self.day - _FIRST.date()).days}|{self.repository}|{self.actor}"


async def list_lines(
    database: Database,
    *,
    actor: Actor,
    filters: Filters,
    limit: int,
    after: str | None,
    order: Order = "newest",
) -> list[Line]:
    """At most ``limit`` lines, those after the cursor ``after``. In the order ``oldest`` the last seconds
    are left out (:data:`SETTLED_SECONDS`): whoever goes on with the last cursor misses none.

    Raises:
        UnauthorizedError, DeniedError: the actor is neither administrator nor auditor.
        RequestInvalidError: ``after`` is no cursor.
    """
    require_auditor(actor)
    query = _lines(filters, after=after, order=order).limit(limit)
    async with database.read() as connection:
        if order == "oldest":
            # Asked for by itself: an expression that may change from row to row bounds no index.
            settled = select(db_time(-timedelta(seconds=SETTLED_SECONDS)))
            query = query.where(events.c.at <= (await connection.execute(settled)).scalar_one())
        return [_line(row) for row in await connection.execute(query)]


async def export(
    database: Database, *, actor: Actor, filters: Filters, after: str | None
) -> AsyncIterator[Sequence[Line]]:
    """All lines, the oldest first, in pieces; that somebody has them is itself a line.

    Raises:
        UnauthorizedError, DeniedError, RequestInvalidError: as :func:`list_lines`.
    """
    require_auditor(actor)
    _lines(filters, after=after, order="oldest")
    asked = {name: str(value) for name, value in asdict(filters).items() if value is not None}
    async with database.write() as connection:
        await record(connection, "audit.exported", None, actor, {"filters": asked, "after": after})
    return _pieces(database, actor=actor, filters=filters, after=after)


async def list_pulls(
    database: Database,
    *,
    actor: Actor,
    digest: str,
    repository: str | None,
    limit: int,
    after: str | None,
) -> list[Pulls]:
    """Who pulled a manifest, the newest days first: in all repositories, or in one, for which its maintainers
    may ask too. What was pulled from an earlier repository of the same name is not theirs to know.

    Raises:
        UnauthorizedError, DeniedError: the actor may not.
        RequestInvalidError: ``after`` is no cursor.
    """
    since = _FIRST
    if not may_audit(actor):
        if repository is None:
            require_auditor(actor)
        else:
            require(actor, "configure", repository, None)
            since = await _given_up(database, repository)
    pulled = pull_days.c
    query = (
        select(
            pulled.digest, pulled.day, pulled.repository, pulled.actor, pulled.count, pulled.last_at,
            pulled.address, pulled.tag,
        )
        .where(
            pulled.digest == digest,
            tuple_(pulled.day, pulled.repository, pulled.actor) < _pulls_after(after),
        )
        .order_by(pulled.day.desc(), pulled.repository.desc(), pulled.actor.desc())
        .limit(limit)
    )  # fmt: skip
    if repository is not None:
        query = query.where(pulled.repository == repository, pulled.last_at >= since)
    async with database.read() as connection:
        return [
            Pulls(**{**row._asdict(), "day": _FIRST.date() + timedelta(days=row.day)})
            for row in await connection.execute(query)
        ]


async def _pieces(
    database: Database, *, actor: Actor, filters: Filters, after: str | None
) -> AsyncIterator[Sequence[Line]]:
    while True:
        lines = await list_lines(
            database, actor=actor, filters=filters, limit=_EXPORTED_AT_ONCE, after=after, order="oldest"
        )
        if lines:
            yield lines
        if len(lines) < _EXPORTED_AT_ONCE:
            return
        after = lines[-1].cursor


async def _given_up(database: Database, name: str) -> datetime:
    query = select(tombstones.c.deleted_at).where(tombstones.c.name == name)
    async with database.read_once() as connection:
        found: datetime | None = (await connection.execute(query)).scalar_one_or_none()
    return found or _FIRST


def _lines(filters: Filters, *, after: str | None, order: Order) -> Select[Any]:
    """The statement. Each filter and the time are one range of an index, in whose order the lines come."""
    key = tuple_(events.c.at, events.c.id)
    equal = {
        "actor": filters.actor,
        "kind": filters.action,
        "repository": filters.repository,
        "target": filters.target,
        "token_id": filters.token,
    }
    wanted = [events.c[name] == value for name, value in equal.items() if value is not None]
    if filters.decision == "refused":
        # As the index says it; with a parameter no database sees that it is the same.
        wanted.append(text("events.decision = 'refused'"))  # type: ignore[arg-type]
    elif filters.decision is not None:
        wanted.append(events.c.decision == filters.decision)
    if filters.since is not None:
        wanted.append(events.c.at >= filters.since)
    if filters.until is not None:
        wanted.append(events.c.at < filters.until)
    if order == "newest":
        wanted.append(key < _after(after, (_LAST, 0)))
        return select(events).where(and_(*wanted)).order_by(events.c.at.desc(), events.c.id.desc())
    wanted.append(key > _after(after, (_FIRST, 0)))
    return select(events).where(and_(*wanted)).order_by(events.c.at, events.c.id)


def _after(cursor: str | None, otherwise: tuple[datetime, int]) -> Any:
    at, number = otherwise
    if cursor is not None:
        micros, dot, text_id = cursor.partition(".")
        if not (dot and _is_number(micros) and _is_number(text_id)):
            raise RequestInvalidError(f"{cursor[:80]!r} is no cursor of the audit trail")
        at, number = _FIRST + timedelta(microseconds=int(micros)), int(text_id)
    return tuple_(literal(at, UtcTime), literal(number, Id))


def _pulls_after(cursor: str | None) -> Any:
    day, repository, actor = 2**31 - 1, "", ""
    if cursor is not None:
        try:
            digits, repository, actor = cursor.split("|")
            day = int(digits)
        except ValueError:
            raise RequestInvalidError(f"{cursor[:80]!r} is no cursor of pulls") from None
    return tuple_(literal(day, Integer), literal(repository, String), literal(actor, String))


def _is_number(digits: str) -> bool:
    return digits.isascii() and digits.isdigit() and len(digits) <= 17


def _line(row: Row[Any]) -> Line:
    return Line(
        cursor=f"{(row.at - _FIRST) // timedelta(microseconds=1)}.{row.id}",
        action=row.kind,
        token=row.token_id,
        data=json.loads(row.data),
        **{name: getattr(row, name) for name in _SAME_NAME},
    )


_SAME_NAME = tuple(
    field.name for field in fields(Line) if field.name not in ("cursor", "action", "token", "data")
)
