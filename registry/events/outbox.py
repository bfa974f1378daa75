"""The outbox: an event is a row in the same transaction as its cause, so none is lost and none is untrue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from sqlalchemy import insert

from registry.db.events import events
from registry.db.types import db_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor

EventKind = Literal[
    "repository.created",
    "repository.changed",
    "repository.deleted",
    "manifest.pushed",
    "manifest.deleted",
    "blob.deleted",
    "tag.moved",
    "tag.deleted",
    "pull.refused",
    "trial.finished",
    "verdict.changed",
    "image.blocked",
    "image.unblocked",
]


async def record(
    connection: AsyncConnection, kind: EventKind, repository: str, actor: Actor, data: Mapping[str, object]
) -> None:
    """Write down what ``actor`` did to ``repository``; ``data`` is JSON and holds no secret."""
    await record_all(connection, kind, repository, actor, [data])


async def record_all(
    connection: AsyncConnection,
    kind: EventKind,
    repository: str,
    actor: Actor,
    several: Sequence[Mapping[str, object]],
) -> None:
    """As :func:`record`, several of one kind in one statement."""
    if not several:
        return
    event = insert(events).values(
        kind=kind, repository=repository, actor=actor.shown, address=actor.address, at=db_time()
    )
    rows = [{"data": json.dumps(data, separators=(",", ":"), sort_keys=True)} for data in several]
    await connection.execute(event, rows)
