"""Where a held tag stands for readers: at the last image of its history that the gate admits.

A tag has one position that is stored, where it was pushed to. The other one follows from its history and the
states of today, so no race, no rollback and no version of the registry can leave it behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, select

from registry.content.taghistory import LINES_MAX
from registry.db.content import STATE_COLUMNS, manifests, tag_history
from registry.db.engine import Database
from registry.db.types import db_time


@dataclass(frozen=True, slots=True)
class Position:
    """Where a tag stood, and the state of that image; ``state`` is ``None`` where it was deleted since.
    ``digest`` is ``None`` where the tag was deleted."""

    action: str
    digest: str | None
    state: str | None
    state_reason: str
    state_at: datetime
    grandfathered_until: datetime | None
    blocked_reason: str | None
    turned_bad_at: datetime | None
    platform: str | None
    now: datetime


def positions(moves: Iterable[Position]) -> Iterator[Position]:
    """Where a tag stood, the newest first, as far as nobody has taken it back.

    ``moves`` are its history, the newest first. What was pushed after where a rollback went to is not wanted
    any more, and nothing is left of what was before the tag was deleted.
    """
    back_to: str | None = None
    for move in moves:
        if move.digest is None:
            return
        if back_to is not None and move.digest != back_to:
            continue
        back_to = move.digest if move.action == "rollback" else None
        yield move


async def last_admitted(
    database: Database, repository_id: int, tag: str, admits: Callable[[Position], bool]
) -> str | None:
    """The digest of the last image of the tag that ``admits`` lets pass.

    A blocked one ends the search: a person wants the tag to give nothing, and not something older.
    """
    async with database.read_once() as connection:
        found = await connection.execute(_MOVES, {"repository_id": repository_id, "tag": tag})
        moves = [Position(*row) for row in found]
    for position in positions(moves):
        if position.state is None:
            continue
        if position.blocked_reason is not None:
            return None
        if admits(position):
            return position.digest
    return None


_MOVES = (
    select(
        tag_history.c.action,
        tag_history.c.new_digest,
        *STATE_COLUMNS,
        manifests.c.platform,
        db_time(),
    )
    .outerjoin(
        manifests,
        (manifests.c.repository_id == tag_history.c.repository_id)
        & (manifests.c.digest == tag_history.c.new_digest),
    )
    .where(tag_history.c.repository_id == bindparam("repository_id"), tag_history.c.name == bindparam("tag"))
    .order_by(tag_history.c.id.desc())
    .limit(LINES_MAX)
)
