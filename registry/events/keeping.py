"""How long the audit trail is kept: a number of days, and never more than a number of rows.

When there are more rows than may be, the oldest go before their time, and that is an alarm. Refusals, which a
stranger can provoke, have a share of the rows: he pushes nothing else out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, delete, func, select, text, update

from registry.auth.actor import REGISTRY
from registry.db.dialect import insert_ignoring_conflict
from registry.db.events import audit_keeping, events, pull_days
from registry.db.outbox import record
from registry.db.types import db_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Select
    from sqlalchemy.engine import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database
    from registry.settings import Settings

ROWS_A_STEP = 500
"""What one transaction removes at most: on SQLite all other writers wait for it."""
_COUNTED_A_STEP = 20_000
REFUSED_SHARE = 4
"""A part of the rows, one fourth, is what refusals may take."""
_SETTLED = timedelta(seconds=60)
"""Rows get their ids before they are committed; older ones than this are all there."""
_TOLD_EVERY = timedelta(hours=1)
ALARM_FOR = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Kept:
    """How the trail stands. ``expired`` went when their time was over and ``shortened`` before, in this
    step; ``alarm``: some went before within the last day, whoever removed them."""

    event_rows: int
    refused_rows: int
    pull_rows: int
    expired: int
    shortened: int
    alarm: bool
    more: bool


async def lock_keeping(connection: AsyncConnection, *, wait: bool = True) -> Row[Any] | None:
    """The one row that says how many rows there are, for whoever changes that; ``None`` where another
    replica has it and ``wait`` is not wanted."""
    found = select(audit_keeping).with_for_update(skip_locked=not wait)
    row = (await connection.execute(found)).one_or_none()
    if row is None:
        await connection.execute(insert_ignoring_conflict(connection, audit_keeping, {"id": 1}))
        row = (await connection.execute(found)).one_or_none()
    return row


async def keep(database: Database, settings: Settings) -> Kept | None:
    """One step: count what is new, and remove some of what is too old or too much.

    ``None`` where another replica is at it.
    """
    async with database.write() as connection:
        row = await lock_keeping(connection, wait=False)
        if row is None:
            return None
        now: datetime = (await connection.execute(select(db_time()))).scalar_one()
        step = _Step(connection, now, settings, dict(row._asdict()))
        await step.count()
        await step.remove_expired()
        await step.remove_excess()
        return await step.finish()


class _Step:
    """The row of :data:`audit_keeping` while it changes."""

    def __init__(
        self, connection: AsyncConnection, now: datetime, settings: Settings, row: dict[str, Any]
    ) -> None:
        self._connection = connection
        self._now = now
        self._row = row
        self._max = settings.audit_max_rows
        self._oldest = now - timedelta(days=settings.audit_keep_days)
        self._expired = self._shortened = 0
        self._more = False

    async def count(self) -> None:
        """Count the events that are new since the last time."""
        unsettled = select(func.min(events.c.id)).where(events.c.at >= self._now - _SETTLED).scalar_subquery()
        newest = select(func.max(events.c.id) + 1).scalar_subquery()
        new = (
            select(events.c.id, events.c.decision)
            .where(events.c.id > self._row["counted_id"], events.c.id < func.coalesce(unsettled, newest))
            .order_by(events.c.id)
            .limit(_COUNTED_A_STEP)
            .subquery()
        )
        refused = func.sum(case((new.c.decision == "refused", 1), else_=0))
        found = (await self._connection.execute(select(func.count(), refused, func.max(new.c.id)))).one()
        if found[0]:
            self._row["event_rows"] += found[0]
            self._row["refused_rows"] += int(found[1])
            self._row["counted_id"] = found[2]
            self._more |= found[0] == _COUNTED_A_STEP

    async def remove_expired(self) -> None:
        """Remove what has been kept as long as it has to be."""
        await self._remove_events(_oldest_events().where(events.c.at < self._oldest))
        days = _oldest_pulls().where(pull_days.c.day < day_of(self._oldest))
        await self._remove_pulls(days)

    async def remove_excess(self) -> None:
        """Remove what there is no room for."""
        refused_excess = self._row["refused_rows"] - self._max // REFUSED_SHARE
        if refused_excess > 0:
            # As the index says it; with a parameter no database sees that it is the same.
            refused = _oldest_events().where(text("events.decision = 'refused'"))
            await self._remove_events(refused, refused_excess)
            # All others only when it is not refusals that take their room.
            self._more |= self._row["event_rows"] > self._max
        elif (excess := self._row["event_rows"] - self._max) > 0:
            await self._remove_events(_oldest_events(), excess)
        if (excess := self._row["pull_rows"] - self._max) > 0:
            await self._remove_pulls(_oldest_pulls(), excess)

    async def finish(self) -> Kept:
        """Write the row, and tell where rows went before their time."""
        row = self._row
        if self._shortened:
            row["shortened_rows"] += self._shortened
            if row["shortened_at"] is None or self._now - row["shortened_at"] >= _TOLD_EVERY:
                row["shortened_at"] = self._now
                data = {"rows": row["shortened_rows"], "max_rows": self._max}
                await record(self._connection, "audit.shortened", None, REGISTRY, data)
        changed = {name: value for name, value in row.items() if name != "id"}
        await self._connection.execute(update(audit_keeping).values(changed))
        return Kept(
            event_rows=row["event_rows"],
            refused_rows=row["refused_rows"],
            pull_rows=row["pull_rows"],
            expired=self._expired,
            shortened=self._shortened,
            alarm=row["shortened_at"] is not None and self._now - row["shortened_at"] < ALARM_FOR,
            more=self._more,
        )

    async def _remove_events(self, which: Select[Any], most: int = ROWS_A_STEP) -> None:
        columns = which.with_only_columns(events.c.id, events.c.decision, events.c.at, events.c.position)
        gone = (await self._connection.execute(columns.limit(min(most, ROWS_A_STEP)))).all()
        # By their numbers: for a subquery PostgreSQL may read all of the table.
        await self._connection.execute(delete(events).where(events.c.id.in_([row.id for row in gone])))
        counted = [row for row in gone if row.id <= self._row["counted_id"]]
        self._row["removed_position"] = max(
            self._row["removed_position"], *(row.position or 0 for row in gone), 0
        )
        self._row["event_rows"] -= len(counted)
        self._row["refused_rows"] -= sum(row.decision == "refused" for row in counted)
        self._removed(row.at < self._oldest for row in gone)

    async def _remove_pulls(self, which: Select[Any], most: int = ROWS_A_STEP) -> None:
        columns = which.with_only_columns(pull_days.c.id, pull_days.c.day)
        gone = (await self._connection.execute(columns.limit(min(most, ROWS_A_STEP)))).all()
        await self._connection.execute(delete(pull_days).where(pull_days.c.id.in_([row.id for row in gone])))
        self._row["pull_rows"] -= len(gone)
        self._removed(row.day < day_of(self._oldest) for row in gone)

    def _removed(self, were_old: Iterable[bool]) -> None:
        old = list(were_old)
        self._expired += sum(old)
        self._shortened += len(old) - sum(old)
        self._more |= len(old) == ROWS_A_STEP


def day_of(at: datetime) -> int:
    """The day of a time, as days since 1970 in UTC."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(days=1)


def _oldest_events() -> Select[Any]:
    return select(events.c.id).order_by(events.c.at, events.c.id)


def _oldest_pulls() -> Select[Any]:
    return select(pull_days.c.id).order_by(pull_days.c.day)
