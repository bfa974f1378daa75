"""How the queue stands and who works at it: what an operator watches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import case, func, select

from registry.db.accounts import accounts, workers
from registry.db.engine import Database
from registry.db.trials import parts
from registry.db.types import db_time
from registry.trials.present import SILENT
from registry.trials.room import find_shortages


@dataclass(frozen=True, slots=True)
class Backlog:
    """``parts`` are those without a verdict by state, ``workers`` those not revoked: ``alive``, ``drained``,
    ``silent``. ``oldest_seconds`` is how long the oldest of the parts has been there, 0 without any;
    ``without_room`` how many queued parts wait as no worker that could try them has the disk."""

    parts: Mapping[str, int]
    oldest_seconds: float
    workers: Mapping[str, int]
    without_room: int


async def read_backlog(database: Database) -> Backlog:
    """The figures of now."""
    state = case((workers.c.drain_at.is_not(None), "drained"), (SILENT, "silent"), else_="alive")
    waiting = parts.c.state != "done"
    async with database.read() as connection:
        now = (await connection.execute(select(db_time()))).scalar_one()
        oldest = (
            await connection.execute(select(func.min(parts.c.created_at)).where(waiting))
        ).scalar_one_or_none()
        by_state = await connection.execute(
            select(parts.c.state, func.count()).where(waiting).group_by(parts.c.state)
        )
        counts = {name: int(count) for name, count in by_state}
        known = await connection.execute(
            select(state, func.count())
            .select_from(workers.join(accounts, accounts.c.id == workers.c.account_id))
            .where(accounts.c.disabled_at.is_(None))
            .group_by(state)
        )
        there = {name: int(count) for name, count in known}
        without_room = len(await find_shortages(connection)) if counts.get("queued") else 0
    return Backlog(
        parts={name: counts.get(name, 0) for name in ("queued", "leased")},
        oldest_seconds=0.0 if oldest is None else max(0.0, (now - oldest).total_seconds()),
        workers={name: there.get(name, 0) for name in ("alive", "drained", "silent")},
        without_room=without_room,
    )
