"""Who pulled from a repository and could not by another visibility: past pulls against the rights of now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, literal, select

from registry.auth.policy import Visibility, decide, may_audit
from registry.content.administration import find
from registry.content.explaining import account_named
from registry.db.access import tombstones
from registry.db.events import pull_days
from registry.errors import NotFoundError
from registry.events.keeping import day_of

if TYPE_CHECKING:
    from registry.auth.actor import Actor
    from registry.auth.policy import Action
    from registry.db.engine import Database

AT_ONCE = 100
"""So many who pulled are looked at together."""


@dataclass(frozen=True, slots=True)
class Losing:
    """An account that pulled, or ``anonymous``: how often and when last. With all that it may, it could not
    pull any more."""

    actor: str
    count: int
    last_at: datetime


async def list_losing(
    database: Database,
    *,
    actor: Actor,
    name: str,
    visibility: Visibility,
    since: datetime,
    limit: int,
    after: str | None,
) -> Sequence[Losing]:
    """At most ``limit`` of those who pulled from a repository since then and could not by another visibility,
    by name, those after ``after``. Accounts that there are no more, or that are disabled, lose nothing.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer there, and no auditor.
        NameUnknownError: there is none.
    """
    action: Action = "pull" if may_audit(actor) else "configure"
    await find(database, actor=actor, action=action, name=name)
    # Who pulled from another repository that had the name before loses nothing here.
    gone = select(func.max(tombstones.c.deleted_at)).where(tombstones.c.name == name).scalar_subquery()
    pulled = (
        select(
            pull_days.c.actor,
            func.sum(pull_days.c.count).label("pulls"),
            func.max(pull_days.c.last_at).label("last_at"),
        )
        .where(
            pull_days.c.repository == name,
            pull_days.c.day >= day_of(since),
            pull_days.c.last_at >= func.coalesce(gone, literal(0)),
            pull_days.c.actor.not_like("worker %"),
        )
        .group_by(pull_days.c.actor)
        .order_by(pull_days.c.actor)
        .limit(AT_ONCE)
    )
    found: list[Losing] = []
    async with database.read() as connection:
        while len(found) < limit:
            page = pulled if after is None else pulled.where(pull_days.c.actor > after)
            rows = (await connection.execute(page)).all()
            for row in rows:
                try:
                    account, disabled = await account_named(connection, row.actor)
                except NotFoundError:
                    continue
                if not disabled and not decide(account, "pull", name, visibility).allowed:
                    found.append(Losing(row.actor, int(row.pulls), row.last_at))
            if len(rows) < AT_ONCE:
                break
            after = rows[-1].actor
    return found[:limit]
