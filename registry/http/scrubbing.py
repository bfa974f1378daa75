"""Scrubs of this process: when it is time for one, when one was asked for, or when the replica that was at
one is gone."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from aiohttp import web

from registry.content import quarantine, scrubs
from registry.http.metrics import METRICS
from registry.http.services import SERVICES
from registry.http.sweeps import tried, woken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from registry.http.metrics import Metrics
    from registry.http.services import Services

LOOK_SECONDS = 600
SCRUB_ASKED = web.AppKey("scrub asked for", asyncio.Event)
"""Set by whoever has asked for one in this process."""


async def scrubbing(app: web.Application) -> AsyncIterator[None]:
    """Scrub while the application runs."""
    app[SCRUB_ASKED] = asyncio.Event()
    task = asyncio.create_task(_scrub_forever(app[SERVICES], app[SCRUB_ASKED], app[METRICS]))
    yield
    task.cancel()
    await asyncio.wait([task])


async def _scrub_forever(services: Services, asked: asyncio.Event, metrics: Metrics) -> None:
    seconds: float = LOOK_SECONDS
    while True:
        await woken(asked, within=seconds)
        asked.clear()
        seconds = LOOK_SECONDS
        if not services.settings.read_only:
            left = await tried("a scrub", _scrub(services, metrics), done="carried out")
            if left != 0:
                # Its replica may be gone, or the store fails for a while; the lease tells when.
                seconds = scrubs.LEASE.total_seconds()
        await tried("damaged blobs", _show(services, metrics), done="counted")


async def _scrub(services: Services, metrics: Metrics) -> int:
    """Scrub if it is time; how many scrubs are left to others."""
    database, settings = services.database, services.settings
    if settings.scrub_every_seconds:
        every = timedelta(seconds=settings.scrub_every_seconds)
        rate = settings.scrub_bytes_per_second
        await scrubs.begin_if_due(database, every=every, bytes_per_second=rate)
    while (claimed := await scrubs.claim(database)) is not None:
        await scrubs.carry_out(database, services.blobs, claimed, checked=metrics.scrubbed_bytes.inc)
    return await scrubs.count_open(database)


async def _show(services: Services, metrics: Metrics) -> None:
    metrics.damaged_blobs.set(await quarantine.count(services.database))
