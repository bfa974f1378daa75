"""Collections of this process: when it is time for one, when one was asked for, or when the replica that was
at one is gone."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from aiohttp import web

from registry.content import collections
from registry.http.services import SERVICES
from registry.http.sweeps import tried, woken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from registry.http.services import Services

LOOK_SECONDS = 600
ASKED = web.AppKey("collection asked for", asyncio.Event)
"""Set by whoever has asked for one in this process."""


async def collecting(app: web.Application) -> AsyncIterator[None]:
    """Collect while the application runs."""
    app[ASKED] = asyncio.Event()
    task = asyncio.create_task(_collect_forever(app[SERVICES], app[ASKED]))
    yield
    task.cancel()
    await asyncio.wait([task])


async def _collect_forever(services: Services, asked: asyncio.Event) -> None:
    seconds: float = LOOK_SECONDS
    while True:
        await woken(asked, within=seconds)
        asked.clear()
        seconds = LOOK_SECONDS
        if not services.settings.read_only:
            left = await tried("a collection", _collect(services), done="carried out")
            if left:
                # Its replica may be gone, which shows when the lease is over.
                seconds = collections.LEASE.total_seconds()


async def _collect(services: Services) -> int:
    """Collect if it is time; how many collections are left to others."""
    database, settings = services.database, services.settings
    if settings.collection_every_seconds:
        every = timedelta(seconds=settings.collection_every_seconds)
        await collections.begin_if_due(database, every=every)
    while (claimed := await collections.claim(database)) is not None:
        await collections.carry_out(database, services.blobs, settings, claimed)
    return await collections.count_open(database)
