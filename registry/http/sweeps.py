"""What the registry does by itself every ten minutes: what is over goes (uploads, sessions, API
tokens, deliveries, requests for promotions, idempotency keys, wrong passwords), what repositories keep
of logs and histories is shortened, what a schedule says is tried again, and what is not attested is to be."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from registry.auth import attempts, expiring, idempotency, sessions, tokenlists
from registry.content import chains, restoring, retentionruns, taghistory, tags, uploads
from registry.errors import SeatrialError
from registry.events import deliverykeeping
from registry.trials import (
    keeping,
    livelog,
    logkeeping,
    promotionrows,
    receiving,
    scanattesting,
    scans,
    schedules,
    upstreamkeeping,
)
from registry.trials.keeping import Keeping
from registry.trials.unattested import attest_missing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from structlog.typing import FilteringBoundLogger

    from registry.http.metrics import Metrics
    from registry.http.services import Services

SWEEP_SECONDS = 600
log: FilteringBoundLogger = structlog.get_logger("seatrial.server")


async def keep_swept(services: Services, metrics: Metrics) -> None:
    """Sweep until cancelled."""
    while True:
        metrics.swept(await sweep(services))
        await asyncio.sleep(SWEEP_SECONDS)


async def sweep(services: Services) -> Mapping[str, int | None]:
    """Sweep once; how many rows of what, ``None`` where it could not be. That is told in the log, and keeps
    nothing else from being swept."""
    database, settings = services.database, services.settings
    swept: dict[str, int | None] = {}

    async def over(what: str, sweeping: Awaitable[int]) -> None:
        swept[what] = await tried(what, sweeping)

    await over("uploads", uploads.sweep_expired(database, services.blobs))
    await over("sessions", sessions.sweep_expired(database))
    await over("API tokens", tokenlists.sweep_ended(database, days=settings.ended_api_token_days))
    await tried("tokens that will expire", expiring.tell_expiring(database))
    await over("deliveries", deliverykeeping.keep(database))
    await over("messages of hooks", receiving.sweep_messages(database))
    await over("live logs", livelog.sweep(database))
    await over("requests for promotions", promotionrows.sweep_requests(database))
    copies = upstreamkeeping.sweep(database, days=settings.trial_keep_days)
    await over("copies of other registries", copies)
    keep = Keeping(settings.trial_keep_days, settings.trial_keep_newest)
    await over("trials", keeping.sweep(database, keep))
    await over("logs", logkeeping.sweep(database, keep_bytes=settings.log_keep_bytes))
    await over("scans", scans.sweep(database))
    await over("histories of tags", taghistory.sweep(database))
    grace = timedelta(seconds=settings.collection_grace_seconds)
    await over("deleted manifests", restoring.sweep_deleted(database, grace=grace))
    await over("retention runs", retentionruns.sweep_runs(database))
    if queued := await tried("schedules", schedules.run_due(database, settings), done="queued"):
        log.info("queued images that a schedule says to try again", count=queued)
    await over("idempotency keys", idempotency.sweep_expired(database))
    await over("wrong passwords", attempts.trim(database))
    if not settings.read_only:
        await tried("verdicts", attest_missing(database), done="attested")
        scanned = scanattesting.attest_missing_scans(database, settings.attest_scans)
        await tried("scans", scanned, done="attested")
        unwanted = scanattesting.forget_unwanted_scans(database, settings.attest_scans)
        await tried("statements of scans", unwanted)
        await tried("layers of images", chains.learn_missing(database, services.blobs), done="looked at")
        await tried("versions of tags", tags.learn_versions(database), done="looked at")
    for what, told in (
        ("uploads", "swept expired uploads"),
        ("trials", "swept old trials"),
        ("logs", "swept the oldest logs of repositories that keep more than they may"),
    ):
        if swept[what]:
            log.info(told, count=swept[what])
    return swept


async def tried(what: str, doing: Awaitable[int | None], *, done: str = "swept") -> int | None:
    """Do what the registry does by itself; what fails is told in the log, and done another time."""
    try:
        return await doing
    except (SeatrialError, SQLAlchemyError, OSError) as error:
        log.warning(f"what is due could not be {done}", what=what, reason=repr(error))
    except Exception:  # a loop that ended here would not be begun again before the process is
        log.exception(f"what is due could not be {done}", what=what)
    return None


async def woken(event: asyncio.Event, *, within: float) -> None:
    """Wait until somebody sets it, or for so many seconds."""
    # Not wait_for: of Python 3.11 it loses a cancellation that comes with the event.
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            await event.wait()
