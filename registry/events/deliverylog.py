"""Deliveries as those see them who manage their webhook: listed, sent again, tried out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Row, and_, insert, select, update
from uuid_utils import uuid7

from registry.db.types import db_time
from registry.db.webhooks import deliveries, webhooks
from registry.errors import ConflictError, NotFoundError
from registry.events.envelopes import CONTENT_TYPES, TEST_KIND, Told, body_of
from registry.events.lanes import line_up
from registry.events.webhooks import Webhook, find_allowed

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.db.engine import Database

State = Literal["pending", "delivered", "failed"]
_STEP = 1000


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way by one webhook. ``due_at`` is when it is tried next; null while others of its
    repository go first. ``attempts`` is how many there were, ``last_attempts`` the last of them, with what
    was answered."""

    id: str
    kind: str
    repository: str | None
    position: int | None
    state: State
    attempts: int
    due_at: datetime | None
    created_at: datetime
    finished_at: datetime | None
    last_attempts: Sequence[Mapping[str, Any]]
    content_type: str
    body: str


async def list_deliveries(
    database: Database,
    *,
    actor: Actor,
    webhook_id: str,
    state: State | None,
    since: datetime | None,
    limit: int,
    after: str | None,
) -> list[Delivery]:
    """At most ``limit`` deliveries of a webhook, the newest first, those after the id ``after``.

    Raises:
        NotFoundError: there is no such webhook, or the actor does not manage it.
    """
    async with database.read() as connection:
        await find_allowed(connection, actor, webhook_id)
        query = select(deliveries).where(deliveries.c.webhook_id == webhook_id)
        if after is not None:
            query = query.where(deliveries.c.id < after)
        if state is not None:
            query = query.where(deliveries.c.state == state)
        if since is not None:
            query = query.where(deliveries.c.created_at >= since)
        rows = await connection.execute(query.order_by(deliveries.c.id.desc()).limit(limit))
        return [_delivery(row) for row in rows]


async def show_delivery(database: Database, *, actor: Actor, webhook_id: str, delivery_id: str) -> Delivery:
    """One delivery.

    Raises:
        NotFoundError: there is none, or the actor does not manage the webhook.
    """
    async with database.read() as connection:
        await find_allowed(connection, actor, webhook_id)
        return _delivery(await _find(connection, webhook_id, delivery_id))


async def send_test(database: Database, *, actor: Actor, webhook_id: str, source: str) -> Delivery:
    """Send something that happened nowhere, of kind ``webhook.test``, as any event is sent.

    Raises:
        NotFoundError: there is no such webhook, or the actor does not manage it.
        ConflictError: it is disabled.
    """
    async with database.write() as connection:
        webhook = await _enabled(connection, actor, webhook_id)
        now: datetime = (await connection.execute(select(db_time()))).scalar_one()
        told = Told(
            position=0,
            kind=TEST_KIND,
            at=now,
            repository=webhook.place,
            target=webhook_id,
            actor=actor.shown,
            actor_kind=actor.kind,
            decision="allowed",
            rule=None,
            data={},
        )
        delivery_id = str(uuid7())
        await connection.execute(
            insert(deliveries).values(
                id=delivery_id,
                webhook_id=webhook_id,
                kind=TEST_KIND,
                format=webhook.format,
                body=body_of(told, webhook.format, source=source),
                state="pending",
                due_at=now,
                created_at=now,
            )
        )
        await _wake(connection, webhook_id)
        return _delivery(await _find(connection, webhook_id, delivery_id))


async def redeliver(database: Database, *, actor: Actor, webhook_id: str, delivery_id: str) -> Delivery:
    """Send a delivery again, with the same id and body; one that waits is tried now, where
    none of its repository goes first.

    Raises:
        NotFoundError: there is none, or the actor does not manage the webhook.
        ConflictError: the webhook is disabled.
    """
    async with database.write() as connection:
        webhook = await _enabled(connection, actor, webhook_id)
        await _find(connection, webhook_id, delivery_id)
        await _again(connection, webhook, [delivery_id])
        await _wake(connection, webhook_id)
        return _delivery(await _find(connection, webhook_id, delivery_id))


async def redeliver_since(
    database: Database, *, actor: Actor, webhook_id: str, since: datetime, only_failed: bool
) -> int:
    """Send all deliveries again that were made since then, or those of them that were given up; how many.
    Those that wait are waiting already.

    Raises:
        NotFoundError, ConflictError: as :func:`redeliver`.
    """
    states = ("failed",) if only_failed else ("failed", "delivered")
    done, last = 0, ""
    while True:
        async with database.write() as connection:
            webhook = await _enabled(connection, actor, webhook_id)
            query = select(deliveries.c.id).where(
                deliveries.c.webhook_id == webhook_id,
                deliveries.c.id > last,
                deliveries.c.created_at >= since,
                deliveries.c.state.in_(states),
            )
            found = (await connection.execute(query.order_by(deliveries.c.id).limit(_STEP))).scalars().all()
            await _again(connection, webhook, found)
            await _wake(connection, webhook_id)
        done += len(found)
        if len(found) < _STEP:
            return done
        last = found[-1]


async def _enabled(connection: AsyncConnection, actor: Actor, webhook_id: str) -> Webhook:
    webhook = await find_allowed(connection, actor, webhook_id, lock=True)
    if webhook.disabled_at is not None:
        raise ConflictError(f"the webhook is disabled ({webhook.disabled_reason}); enable it first")
    return webhook


async def _find(connection: AsyncConnection, webhook_id: str, delivery_id: str) -> Row[Any]:
    this = and_(deliveries.c.webhook_id == webhook_id, deliveries.c.id == delivery_id)
    row = (await connection.execute(select(deliveries).where(this))).one_or_none()
    if row is None:
        raise NotFoundError(f"the webhook has no delivery {delivery_id[:80]!r}; old ones are not kept")
    return row


async def _again(connection: AsyncConnection, webhook: Webhook, delivery_ids: Sequence[str]) -> None:
    for start in range(0, len(delivery_ids), _STEP // 2):
        await connection.execute(
            update(deliveries)
            .where(deliveries.c.id.in_(delivery_ids[start : start + _STEP // 2]))
            .values(state="pending", due_at=db_time(), attempts=0, finished_at=None)
        )
    if webhook.ordered:
        await line_up(connection, webhook.id)


async def _wake(connection: AsyncConnection, webhook_id: str) -> None:
    """Have somebody look at once; who is at it already looks by himself."""
    await connection.execute(
        update(webhooks)
        .where(webhooks.c.id == webhook_id, webhooks.c.lease.is_(None))
        .values(next_at=db_time(), hold_until=None)
    )


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        kind=row.kind,
        repository=row.repository,
        position=row.position,
        state=row.state,
        attempts=row.attempts,
        due_at=row.due_at,
        created_at=row.created_at,
        finished_at=row.finished_at,
        last_attempts=json.loads(row.log),
        content_type=CONTENT_TYPES[row.format],
        body=row.body,
    )
