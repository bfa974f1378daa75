"""The outbox: an event is a row in the same transaction as its cause, so none is lost and none is untrue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from sqlalchemy import insert

from registry.db.events import events
from registry.db.types import db_time

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    await connection.execute(
        insert(events).values(
            kind=kind,
            repository=repository,
            actor=actor.shown,
            address=actor.address,
            data=json.dumps(data, separators=(",", ":"), sort_keys=True),
            at=db_time(),
        )
    )
