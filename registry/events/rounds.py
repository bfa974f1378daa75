"""A round of one webhook: what is due, taken under a lease, and what became of it, written at once.

One process at a time works for a webhook: so its receiver never has more requests at once than it should, and
its order is kept. The lease is on the webhook's row, by the database's clock; whoever is killed with it is
followed by another when it has run out, and what he had not written down is sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, func, select, update
from uuid_utils import uuid7

from registry.auth.actor import REGISTRY
from registry.db.outbox import record
from registry.db.placed import with_place
from registry.db.types import db_time
from registry.db.webhooks import PENDING, deliveries, webhooks
from registry.events.attempts import Attempt, is_overdue, logged, rest_seconds, retry_seconds
from registry.events.lanes import line_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database
    from registry.events.attempts import Pace


@dataclass(frozen=True, slots=True)
class LeasedWebhook:
    """A webhook that this process works for."""

    id: str
    lease: str
    url: str
    ordered: bool
    secrets: tuple[bytes, ...]
    failures: int


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery that is due."""

    id: str
    kind: str
    repository: str | None
    format: str
    body: str
    attempts: int
    log: str


Sent = Sequence[tuple[DueDelivery, Attempt]]


async def take(database: Database, pace: Pace, *, most: int) -> list[LeasedWebhook]:
    """At most ``most`` webhooks for which something is due, each under a lease of its own."""
    async with database.read_once() as connection:
        due = select(webhooks.c.id).where(_is_due(), webhooks.c.disabled_at.is_(None)).limit(1)
        if (await connection.execute(due)).first() is None:
            return []
    async with database.write() as connection:
        query = (
            select(webhooks)
            .where(_is_due(), webhooks.c.disabled_at.is_(None))
            .order_by(webhooks.c.next_at)
            .limit(most)
            .with_for_update(skip_locked=True)
        )
        rows = (await connection.execute(query)).all()
        now: datetime = (await connection.execute(select(db_time()))).scalar_one()
        taken = [_leased(row, str(uuid7()), now) for row in rows]
        if taken:
            leasing = update(webhooks).where(webhooks.c.id == bindparam("this"))
            await connection.execute(
                leasing.values(
                    lease=bindparam("its"), next_at=db_time(timedelta(seconds=pace.lease_seconds))
                ),
                [{"this": webhook.id, "its": webhook.lease} for webhook in taken],
            )
    return taken


def _is_due() -> Any:
    return and_(webhooks.c.next_at.is_not(None), webhooks.c.next_at <= db_time())


def _leased(row: Row[Any], lease: str, now: datetime) -> LeasedWebhook:
    secrets = [row.secret]
    if row.old_secret is not None and row.old_secret_until > now:
        secrets.append(row.old_secret)
    return LeasedWebhook(row.id, lease, row.url, row.ordered, tuple(map(bytes, secrets)), row.failures)


async def due(database: Database, webhook: LeasedWebhook, pace: Pace) -> list[list[DueDelivery]]:
    """What is due for a webhook: rows of deliveries, each of which is sent in its order. Of one that has
    failed altogether for some rounds only little is tried."""
    most = pace.batch if not webhook.failures else 1 if webhook.failures > 1 else pace.at_once
    async with database.read() as connection:
        now = (await connection.execute(select(db_time()))).scalar_one()
        first = (
            _DELIVERIES.where(*_due(webhook.id), deliveries.c.due_at <= now)
            .order_by(deliveries.c.due_at)
            .limit(most)
        )
        found = (await connection.execute(first)).all()
        if not webhook.ordered:
            return [[_delivery(row)] for row in found]
        rows = [[_delivery(row)] for row in found if row.repository is None]
        for repository in dict.fromkeys(row.repository for row in found if row.repository is not None):
            lane = (
                _DELIVERIES.where(*_waiting(webhook.id), deliveries.c.repository == repository)
                .order_by(deliveries.c.position)
                .limit(pace.in_a_row if not webhook.failures else 1)
            )
            in_order = (await connection.execute(lane)).all()
            # One that was asked for again may have put itself before the one that was found.
            if in_order and in_order[0].due_at is not None and in_order[0].due_at <= now:
                rows.append([_delivery(row) for row in in_order])
        return rows


def _delivery(row: Any) -> DueDelivery:
    return DueDelivery(row.id, row.kind, row.repository, row.format, row.body, row.attempts, row.log)


def _due(webhook_id: str) -> tuple[Any, ...]:
    return deliveries.c.webhook_id == webhook_id, deliveries.c.due_at.is_not(None)


def _waiting(webhook_id: str) -> tuple[Any, ...]:
    return deliveries.c.webhook_id == webhook_id, PENDING


_DELIVERIES = select(
    deliveries.c.id,
    deliveries.c.kind,
    deliveries.c.repository,
    deliveries.c.format,
    deliveries.c.body,
    deliveries.c.attempts,
    deliveries.c.log,
    deliveries.c.due_at,
)


async def settle(
    database: Database,
    webhook: LeasedWebhook,
    sent: Sent,
    pace: Pace,
    *,
    goes_on: bool,
    jitter: Callable[[], float],
) -> LeasedWebhook | None:
    """Write down what became of a round. The webhook, where more is due and ``goes_on``; else its lease is
    given back, and ``None``. Nothing is written where the lease has become another's."""
    async with database.write() as connection:
        held = with_place(webhooks, webhooks).where(
            webhooks.c.id == webhook.id, webhooks.c.lease == webhook.lease
        )
        row = (await connection.execute(held.with_for_update(of=webhooks))).one_or_none()
        if row is None:
            return None
        now: datetime = (await connection.execute(select(db_time()))).scalar_one()
        given_up = await _write_outcomes(connection, sent, now, pace, jitter)
        if row.ordered:
            # What went on meanwhile may have become its order, and what failed have got others before it.
            await line_up(connection, webhook.id)
            await _next_of_lanes(connection, webhook, sent, now)
        values = _standing(row, sent, now, pace)
        next_at = await _next_due(connection, webhook.id)
        more = next_at is not None and next_at <= now
        # Where nothing else is due, what failed waits by itself, and keeps nobody else's waiting.
        rest = rest_seconds(values.get("failures", row.failures), pace, jitter=jitter()) if more else None
        stays = more and goes_on and rest is None and bool(sent)
        stays = stays and values.get("disabled_at") is None and row.disabled_at is None
        values["hold_until"] = None if rest is None else now + timedelta(seconds=rest)
        if stays:
            values["next_at"] = now + timedelta(seconds=pace.lease_seconds)
        else:
            values |= {"lease": None, "next_at": values["hold_until"] or next_at}
        await connection.execute(update(webhooks).where(webhooks.c.id == webhook.id).values(values))
        await _tell(connection, row, values, given_up)
    return _leased(row, webhook.lease, now) if stays else None


async def _write_outcomes(
    connection: AsyncConnection, sent: Sent, now: datetime, pace: Pace, jitter: Callable[[], float]
) -> list[DueDelivery]:
    """The deliveries' rows; those that were given up."""
    given_up, rows = [], []
    for delivery, attempt in sent:
        attempts = delivery.attempts + 1
        state, due_at = "delivered", None
        if attempt.outcome != "delivered":
            wait = retry_seconds(attempts, pace, jitter=jitter(), asked=attempt.retry_after)
            state, due_at = "pending", now + timedelta(seconds=wait)
            if attempts >= pace.attempts:
                state, due_at = "failed", None
                given_up.append(delivery)
        rows.append(
            {
                "this": delivery.id,
                "new_state": state,
                "new_due": due_at,
                "new_attempts": attempts,
                "new_log": logged(delivery.log, attempt),
                "new_end": None if due_at is not None else now,
            }
        )
    if rows:
        writing = update(deliveries).where(deliveries.c.id == bindparam("this"))
        await connection.execute(
            writing.values(
                state=bindparam("new_state"),
                due_at=bindparam("new_due"),
                attempts=bindparam("new_attempts"),
                log=bindparam("new_log"),
                finished_at=bindparam("new_end"),
            ),
            rows,
        )
    return given_up


async def _next_of_lanes(
    connection: AsyncConnection, webhook: LeasedWebhook, sent: Sent, now: datetime
) -> None:
    """Let the next of each repository be due, where the first is over."""
    named = (delivery.repository for delivery, _ in sent if delivery.repository is not None)
    for repository in dict.fromkeys(named):
        first = (
            select(deliveries.c.id, deliveries.c.due_at)
            .where(*_waiting(webhook.id), deliveries.c.repository == repository)
            .order_by(deliveries.c.position)
            .limit(1)
        )
        row = (await connection.execute(first)).first()
        if row is not None and row.due_at is None:
            await connection.execute(update(deliveries).where(deliveries.c.id == row.id).values(due_at=now))


async def _next_due(connection: AsyncConnection, webhook_id: str) -> datetime | None:
    query = select(func.min(deliveries.c.due_at)).where(*_due(webhook_id))
    found: datetime | None = (await connection.execute(query)).scalar_one()
    return found


def _standing(row: Row[Any], sent: Sent, now: datetime, pace: Pace) -> dict[str, Any]:
    """What a round changes of the webhook itself."""
    outcomes = {attempt.outcome for _, attempt in sent}
    if "delivered" in outcomes:
        return {"failures": 0, "failing_since": None, "last_delivered_at": now}
    if not outcomes:
        return {}
    values: dict[str, Any] = {"failures": row.failures + 1, "failing_since": row.failing_since or now}
    if "gone" in outcomes:
        reason = "its receiver answered 410: it wants nothing more"
    elif is_overdue(row.failing_since, now, pace.disable_seconds):
        reason = f"nothing could be delivered since {row.failing_since:%Y-%m-%d %H:%M} UTC"
    else:
        return values
    return values | {"disabled_at": now, "disabled_reason": reason}


async def _tell(
    connection: AsyncConnection, row: Row[Any], values: Mapping[str, Any], given_up: Sequence[DueDelivery]
) -> None:
    if values.get("disabled_at") is not None:
        said: dict[str, object] = {"reason": values["disabled_reason"]}
        await record(connection, "webhook.disabled", row.place, REGISTRY, said, target=row.id)
    for delivery in given_up:
        said = {"delivery": delivery.id, "kind": delivery.kind, "attempts": delivery.attempts + 1}
        await record(connection, "delivery.failed", row.place, REGISTRY, said, target=row.id)
