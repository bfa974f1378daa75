"""What the registry does by itself every ten minutes: what is over goes (uploads, sessions, API
tokens, deliveries, requests for promotions, idempotency keys, wrong passwords), what a schedule says is tried
again, and what is not attested is to be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from registry.auth import attempts, expiring, idempotency, sessions, tokenlists
from registry.content import uploads
from registry.errors import SeatrialError
from registry.events import deliverykeeping
from registry.trials import keeping, livelog, promotions, receiving, schedules
from registry.trials.keeping import Keeping
from registry.trials.unattested import attest_missing

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
    swept = await tried("uploads", uploads.sweep_expired(database, services.blobs))
    if swept:
        log.info("swept expired uploads", count=swept)
    await tried("sessions", sessions.sweep_expired(database))
    days = services.settings.ended_api_token_days
    await tried("API tokens", tokenlists.sweep_ended(database, days=days))
    await tried("tokens that will expire", expiring.tell_expiring(database))
    await tried("deliveries", deliverykeeping.keep(database))
    await tried("messages of hooks", receiving.sweep_messages(database))
    await tried("live logs", livelog.sweep(database))
    await tried("requests for promotions", promotions.sweep_requests(database))
    keep = Keeping(services.settings.trial_keep_days, services.settings.trial_keep_newest)
    if swept := await tried("trials", keeping.sweep(database, keep)):
        log.info("swept old trials", count=swept)
    if queued := await tried("schedules", schedules.run_due(database, services.settings), done="queued"):
        log.info("queued images that a schedule says to try again", count=queued)
    await tried("idempotency keys", idempotency.sweep_expired(database))
    await tried("wrong passwords", attempts.trim(database))
    if not services.settings.read_only:
        await tried("verdicts", attest_missing(database), done="attested")


async def tried(what: str, doing: Awaitable[int | None], *, done: str = "swept") -> int | None:
    """Do what the registry does by itself; what fails is told in the log, and done another time."""
    try:
        return await doing
    except (SeatrialError, SQLAlchemyError, OSError) as error:
        log.warning(f"what is due could not be {done}", what=what, reason=repr(error))
        return None
