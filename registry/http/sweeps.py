"""What the registry does by itself: what is over goes, every ten minutes (uploads, sessions, API tokens,
idempotency keys, wrong passwords), and verdicts are signed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from registry.auth import attempts, expiring, idempotency, sessions, tokenlists
from registry.content import uploads
from registry.errors import SeatrialError
from registry.trials import receiving
from registry.trials.attested import attest_missing
from registry.trials.signing import Attester

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from structlog.typing import FilteringBoundLogger

    from registry.http.services import Services

SWEEP_SECONDS = 600
ATTEST_SECONDS = 5.0
"""How long what another replica left unsigned may lie."""
GATHER_SECONDS = 0.05
"""Every commit rings; so often is enough to look."""
log: FilteringBoundLogger = structlog.get_logger("seatrial.server")


async def keep_swept(services: Services) -> None:
    """Sweep until cancelled."""
    while True:
        await sweep(services)
        await asyncio.sleep(SWEEP_SECONDS)


async def keep_attested(services: Services) -> None:
    """Sign verdicts until the process ends: at once those of this process, and soon what another left."""
    attester = Attester(services.database, services.blobs, services.settings, services.oidc.secret_key)
    bell = services.database.bell
    while not (bell.muted or services.settings.read_only):
        heard = bell.listen()
        await _tried("verdicts", attester.sign_all(), done="signed")
        # Not wait_for: of Python 3.11 it loses a cancellation that comes with the ring.
        with suppress(TimeoutError):
            async with asyncio.timeout(ATTEST_SECONDS):
                await heard.wait()
        await asyncio.sleep(GATHER_SECONDS)


async def sweep(services: Services) -> None:
    """Sweep once. What cannot be swept is told in the log, and keeps nothing else from being swept."""
    database = services.database
    swept = await _tried("uploads", uploads.sweep_expired(database, services.blobs))
    if swept:
        log.info("swept expired uploads", count=swept)
    await _tried("sessions", sessions.sweep_expired(database))
    days = services.settings.ended_api_token_days
    await _tried("API tokens", tokenlists.sweep_ended(database, days=days))
    await _tried("tokens that will expire", expiring.tell_expiring(database))
    await _tried("messages of hooks", receiving.sweep_messages(database))
    await _tried("idempotency keys", idempotency.sweep_expired(database))
    await _tried("wrong passwords", attempts.trim(database))
    if not services.settings.read_only:
        await _tried("verdicts", attest_missing(database), done="attested")


async def _tried(what: str, doing: Awaitable[int | None], *, done: str = "swept") -> int | None:
    try:
        return await doing
    except (SeatrialError, SQLAlchemyError, OSError) as error:
        log.warning(f"what is due could not be {done}", what=what, reason=repr(error))
        return None
