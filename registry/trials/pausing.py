"""Pauses: the gates below a namespace only warn for a while, and then by themselves no longer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from registry.auth.access import require_auditor
from registry.auth.owners import require_or_tell
from registry.auth.places import Place, hold_place
from registry.auth.policy import may_audit
from registry.content.blocks import below
from registry.db.access import namespaces
from registry.db.dialect import insert
from registry.db.engine import move_epoch
from registry.db.gate import pauses
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import NotFoundError, RequestInvalidError
from registry.oci.names import parse_repository_name

if TYPE_CHECKING:
    from registry.auth.actor import Actor
    from registry.db.engine import Database

PAUSE_MAX = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of a namespace's gates, which ends at ``until``."""

    namespace: str
    until: datetime
    reason: str
    actor: str
    created_at: datetime


async def pause(database: Database, *, actor: Actor, namespace: str, until: datetime, reason: str) -> Pause:
    """Let the gates below a namespace only warn until then; in the place of the pause that there is.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of it.
        NotFoundError: there is no such namespace.
        RequestInvalidError: it ends in the past, or more than 7 days from now.
    """
    await require_or_tell(database, actor, "configure", f"{namespace}/", None)
    async with database.write() as connection:
        namespace_id = await hold_place(connection, Place(namespace, is_namespace=True))
        now = (await connection.execute(select(db_time()))).scalar_one()
        if not now < until <= now + PAUSE_MAX:
            raise RequestInvalidError(f"a pause ends after now and at most {PAUSE_MAX.days} days later")
        made = Pause(namespace, until, reason, actor.shown, now)
        values = {"until": until, "reason": reason, "actor": actor.shown, "created_at": now}
        await connection.execute(
            insert(connection, pauses)
            .values(namespace_id=namespace_id, **values)
            .on_conflict_do_update(index_elements=["namespace_id"], set_=values)
        )
        data = {"until": until.isoformat(), "reason": reason}
        await record(connection, "gate.paused", f"{namespace}/", actor, data)
        await move_epoch(connection, "gate")
    return made


async def resume(database: Database, *, actor: Actor, namespace: str) -> None:
    """End a pause before its time.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of the namespace.
        NotFoundError: it is not paused.
    """
    await require_or_tell(database, actor, "configure", f"{namespace}/", None)
    this = select(namespaces.c.id).where(namespaces.c.name == namespace).scalar_subquery()
    async with database.write() as connection:
        ended = await connection.execute(
            delete(pauses).where(pauses.c.namespace_id == this, pauses.c.until > db_time())
        )
        if ended.rowcount == 0:
            raise NotFoundError(f"the gate of {namespace[:300]} is not paused")
        await record(connection, "gate.resumed", f"{namespace}/", actor, {})
        await move_epoch(connection, "gate")


async def list_pauses(
    database: Database, *, actor: Actor, namespace: str | None, limit: int, after: str
) -> list[Pause]:
    """At most ``limit`` pauses that have not ended, by namespace, those after ``after``: of a namespace and
    those below it, or all.

    Raises:
        UnauthorizedError, DeniedError: the actor has no role on the namespace; of all, is no administrator or
            auditor.
        NameInvalidError: outside the grammar.
    """
    query = (
        select(namespaces.c.name, pauses.c.until, pauses.c.reason, pauses.c.actor, pauses.c.created_at)
        .join(pauses, pauses.c.namespace_id == namespaces.c.id)
        .where(pauses.c.until > db_time(), namespaces.c.name > after)
        .order_by(namespaces.c.name)
        .limit(limit)
    )
    if namespace is not None:
        parse_repository_name(namespace)
        if not may_audit(actor):
            await require_or_tell(database, actor, "pull", f"{namespace}/", None)
        query = query.where((namespaces.c.name == namespace) | below(namespaces.c.name, f"{namespace}/"))
    else:
        require_auditor(actor, "see the pauses of all namespaces")
    async with database.read_once() as connection:
        return [Pause(*row) for row in await connection.execute(query)]
