"""Positions: each event gets its place in the feed, and in the same transaction its deliveries.

Rows get their numbers before they are committed, so that a later commit may have a lower number, and whoever
reads on by number passes it over. Positions are given afterwards, to committed rows, by whoever holds the one
row of ``event_feed``: they are committed in their order. As an event gets its position once, each webhook
gets its delivery once, however many processes look and whenever one of them is killed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, insert, select, update
from uuid_utils import uuid7

from registry.auth.policy import itself_and_above
from registry.db.access import namespaces
from registry.db.content import manifests, repositories
from registry.db.dialect import batches, insert_ignoring_conflict
from registry.db.events import events
from registry.db.hooks import hook_trials
from registry.db.placed import with_place
from registry.db.types import db_time
from registry.db.webhooks import PENDING, deliveries, event_feed, webhooks
from registry.events.envelopes import Image, Told, body_of, digest_in
from registry.events.webhooks import matches

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database

AT_ONCE = 500
_UNPLACED = events.c.position.is_(None)


async def sequence(database: Database, *, source: str, at_once: int = AT_ONCE) -> int:
    """One step: give positions to at most ``at_once`` events and make their deliveries; how many events.

    ``source`` is the registry's address. None are left, or another process is at it, where it is 0.
    """
    async with database.read_once() as connection:
        if (await connection.execute(select(events.c.id).where(_UNPLACED).limit(1))).first() is None:
            return 0
    async with database.write() as connection:
        position = await _hold_feed(connection)
        if position is None:
            return 0
        # Locked: else a rename may commit after this, and they name a place that no webhook is of.
        waiting = select(events).where(_UNPLACED).order_by(events.c.id).limit(at_once)
        rows = (await connection.execute(waiting.with_for_update())).all()
        if not rows:
            return 0
        told = [_told(row, position + number) for number, row in enumerate(rows, 1)]
        placing = update(events).where(events.c.id == bindparam("this")).values(position=bindparam("placed"))
        placed = [{"this": row.id, "placed": one.position} for row, one in zip(rows, told, strict=True)]
        await connection.execute(placing, placed)
        await connection.execute(
            update(event_feed).where(event_feed.c.id == 1).values(position=told[-1].position)
        )
        await _deliver(connection, told, source=source)
    return len(rows)


async def _hold_feed(connection: AsyncConnection) -> int | None:
    """The last position, for whoever gives the next; ``None`` where another process does."""
    held = select(event_feed.c.position).where(event_feed.c.id == 1).with_for_update(skip_locked=True)
    position: int | None = (await connection.execute(held)).scalar_one_or_none()
    if position is None:
        await connection.execute(insert_ignoring_conflict(connection, event_feed, {"id": 1, "position": 0}))
        position = (await connection.execute(held)).scalar_one_or_none()
    return position


def _told(row: Row[Any], position: int) -> Told:
    same = ("kind", "at", "repository", "target", "actor", "actor_kind", "decision", "rule")
    return Told(position=position, data=json.loads(row.data), **{name: getattr(row, name) for name in same})


async def _deliver(connection: AsyncConnection, told: Sequence[Told], *, source: str) -> None:
    told_to = await _webhooks_of(connection, {one.repository for one in told})
    asked = await _asked_by_hooks(connection, told) if any(webhook.hook_id for webhook in told_to) else {}
    wanted = [
        (webhook, one)
        for one in told
        for webhook in told_to
        if _is_for(webhook, one) and webhook.hook_id in (None, asked.get(one.data.get("trial")))
    ]
    if not wanted:
        return
    images = await _images(connection, [one for _, one in wanted])
    now: datetime = (await connection.execute(select(db_time()))).scalar_one()
    lanes: dict[tuple[str, str | None], bool] = {}
    bodies: dict[tuple[int, str], str] = {}
    rows = []
    for webhook, one in wanted:
        key = one.position, webhook.format
        if key not in bodies:
            image = images.get((one.repository, digest_in(one.data)))
            bodies[key] = body_of(replace(one, image=image), webhook.format, source=source)
        waits = False
        if webhook.ordered and one.repository is not None:
            lane = webhook.id, one.repository
            waits = lanes[lane] if lane in lanes else await _is_busy(connection, *lane)
            lanes[lane] = True
        rows.append(
            {
                "id": str(uuid7()),
                "webhook_id": webhook.id,
                "position": one.position,
                "kind": one.kind,
                "repository": one.repository,
                "format": webhook.format,
                "body": bodies[key],
                "state": "pending",
                "due_at": None if waits else now,
                "created_at": now,
            }
        )
    await connection.execute(insert(deliveries), rows)
    woken = {webhook.id: webhook for webhook, _ in wanted if webhook.lease is None}
    if woken:
        looking = update(webhooks).where(webhooks.c.id == bindparam("this"))
        await connection.execute(
            looking.values(next_at=bindparam("look_at")),
            [
                {"this": webhook.id, "look_at": max(now, webhook.hold_until or now)}
                for webhook in woken.values()
            ],
        )


def _is_for(webhook: Row[Any], one: Told) -> bool:
    place = one.repository
    if webhook.place is not None and (place is None or webhook.place not in itself_and_above(place)):
        return False
    # What it was disabled for it is not told of by itself.
    mine = one.target == webhook.id and one.kind in ("webhook.disabled", "delivery.failed")
    return not mine and bool(webhook.created_at <= one.at) and matches(json.loads(webhook.kinds), one.kind)


async def _asked_by_hooks(connection: AsyncConnection, told: Sequence[Told]) -> dict[object, str]:
    """By which hook trials were asked for, where by one."""
    found: dict[object, str] = {}
    for batch in batches(one.data["trial"] for one in told if "trial" in one.data):
        query = select(hook_trials.c.trial_id, hook_trials.c.hook_id).where(hook_trials.c.trial_id.in_(batch))
        found |= {row.trial_id: row.hook_id for row in await connection.execute(query)}
    return found


async def _webhooks_of(connection: AsyncConnection, places: Iterable[str | None]) -> Sequence[Row[Any]]:
    """The webhooks of these places and those above, locked: what is due changes for them."""
    names = {name for place in places if place is not None for name in itself_and_above(place)}
    everywhere = and_(webhooks.c.repository_id.is_(None), webhooks.c.namespace_id.is_(None))
    at = [everywhere]
    for batch in batches(sorted(names)):
        above = [name.removesuffix("/") for name in batch if name.endswith("/")]
        at += [
            webhooks.c.repository_id.in_(select(repositories.c.id).where(repositories.c.name.in_(batch))),
            webhooks.c.namespace_id.in_(select(namespaces.c.id).where(namespaces.c.name.in_(above))),
        ]
    ids: set[str] = set()
    for where in at:
        query = select(webhooks.c.id).where(where, webhooks.c.disabled_at.is_(None))
        ids |= set((await connection.execute(query)).scalars())
    found: list[Row[Any]] = []
    for batch in batches(sorted(ids)):
        held = (
            with_place(
                webhooks,
                webhooks.c.id, webhooks.c.kinds, webhooks.c.format, webhooks.c.ordered,
                webhooks.c.created_at, webhooks.c.lease, webhooks.c.hold_until, webhooks.c.hook_id,
            )
            .where(webhooks.c.id.in_(batch), webhooks.c.disabled_at.is_(None))
            .order_by(webhooks.c.id)  # whoever locks several does it in this order
            .with_for_update(of=webhooks)
        )  # fmt: skip
        found += (await connection.execute(held)).all()
    return found


async def _is_busy(connection: AsyncConnection, webhook_id: str, repository: str) -> bool:
    """Whether something of the repository waits for an ordered webhook already."""
    query = select(deliveries.c.id).where(
        deliveries.c.webhook_id == webhook_id,
        deliveries.c.repository == repository,
        PENDING,
    )
    return (await connection.execute(query.limit(1))).first() is not None


async def _images(
    connection: AsyncConnection, told: Sequence[Told]
) -> Mapping[tuple[str | None, str | None], Image]:
    """What is known of the images that the events are about, by repository and digest."""
    digests_of: dict[str, set[str]] = defaultdict(set)
    for one in told:
        digest = digest_in(one.data)
        if one.repository is not None and digest is not None:
            digests_of[one.repository].add(digest)
    found: dict[tuple[str | None, str | None], Image] = {}
    for name, digests in digests_of.items():
        for batch in batches(sorted(digests)):
            query = (
                select(
                    manifests.c.digest, manifests.c.media_type, manifests.c.size, manifests.c.source,
                    manifests.c.revision, manifests.c.pushed_by, manifests.c.workload,
                )
                .join(repositories, repositories.c.id == manifests.c.repository_id)
                .where(repositories.c.name == name, manifests.c.digest.in_(batch))
            )  # fmt: skip
            for row in await connection.execute(query):
                workload = None if row.workload is None else json.loads(row.workload)
                found[name, row.digest] = Image(**{**row._asdict(), "workload": workload})
    return found
