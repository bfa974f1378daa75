"""When, from where and by what program each API token was last used: written together, and never on the
path of a request.

A token's row is written once in a minute at most, over all processes. Lists are right to within that minute.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import case, or_, select, update
from sqlalchemy.exc import DBAPIError

from registry.db.accounts import tokens
from registry.db.dialect import batches
from registry.db.types import db_time

if TYPE_CHECKING:
    from sqlalchemy import Update

    from registry.db.engine import Database

NOTED_SECONDS = 60.0
FLUSH_SECONDS = 5.0
"""Uses are written together, so long after the first of them."""
_NOTED_MAX = 100_000
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Use:
    address: str | None
    client: str | None


class TokenUses:
    """One per process."""

    def __init__(self, database: Database, *, flush_seconds: float = FLUSH_SECONDS) -> None:
        self._database = database
        self._flush_seconds = flush_seconds
        self._noted: dict[str, float] = {}
        self._uses: dict[str, _Use] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def note(self, token_id: str, *, address: str | None, client: str | None) -> None:
        """The token was used just now."""
        now = time.monotonic()
        if now - self._noted.get(token_id, -NOTED_SECONDS) < NOTED_SECONDS:
            return
        if len(self._noted) >= _NOTED_MAX:
            self._noted.clear()
        self._noted[token_id] = now
        self._uses[token_id] = _Use(address, client)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._flush_seconds, self._begin_writing)

    async def close(self) -> None:
        """Write the uses that are not yet written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            await self._writing
        await self._write()

    def _begin_writing(self) -> None:
        self._timer = None
        self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        uses, self._uses = self._uses, {}
        try:
            for batch in batches(sorted(uses)):
                async with self._database.write() as connection:
                    await connection.execute(_noting({token_id: uses[token_id] for token_id in batch}))
        except DBAPIError as error:
            # A full disk must not keep anyone from pulling or deleting.
            _log.warning("token.use_not_noted", tokens=len(uses), error=type(error.orig).__name__)


def _noting(uses: dict[str, _Use]) -> Update:
    """One statement for all of them. What another process has written within the minute stays, and what one
    is writing right now is passed over: it says the same."""
    due = (
        select(tokens.c.id)
        .where(
            tokens.c.id.in_(list(uses)),
            or_(
                tokens.c.last_used_at.is_(None),
                tokens.c.last_used_at < db_time(-timedelta(seconds=NOTED_SECONDS)),
            ),
        )
        .order_by(tokens.c.id)
        .with_for_update(skip_locked=True)
    )
    return (
        update(tokens)
        .where(tokens.c.id.in_(due))
        .values(
            last_used_at=db_time(),
            last_used_address=case({key: use.address for key, use in uses.items()}, value=tokens.c.id),
            last_used_client=case({key: use.client for key, use in uses.items()}, value=tokens.c.id),
        )
    )
