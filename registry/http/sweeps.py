"""What is over goes, every ten minutes: uploads, sessions, API tokens, idempotency keys, wrong passwords."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from registry.auth import attempts, idempotency, sessions, tokenlists
from registry.content import uploads
from registry.errors import SeatrialError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from structlog.typing import FilteringBoundLogger

    from registry.http.services import Services

SWEEP_SECONDS = 600
log: FilteringBoundLogger = structlog.get_logger("seatrial.server")


async def keep_swept(services: Services) -> None:
    """Sweep until cancelled."""
    while True:
        await sweep(services)
        await asyncio.sleep(SWEEP_SECONDS)


async def sweep(services: Services) -> None:
    """Sweep once. What cannot be swept is told in the log, and keeps nothing else from being swept."""
    database = services.database
    swept = await _tried("uploads", uploads.sweep_expired(database, services.blobs))
    if swept:
        log.info("swept expired uploads", count=swept)
    await _tried("sessions", sessions.sweep_expired(database))
    days = services.settings.ended_api_token_days
    await _tried("API tokens", tokenlists.sweep_ended(database, days=days))
    await _tried("idempotency keys", idempotency.sweep_expired(database))
    await _tried("wrong passwords", attempts.trim(database))


async def _tried(what: str, sweeping: Awaitable[int | None]) -> int | None:
    try:
        return await sweeping
    except (SeatrialError, SQLAlchemyError, OSError) as error:
        log.warning("what has expired could not be swept", what=what, reason=repr(error))
        return None
