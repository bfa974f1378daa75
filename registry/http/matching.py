"""Matching of this process: packages of scans that come, and of all images when advisories change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from registry.http.metrics import METRICS
from registry.http.services import SERVICES
from registry.http.sweeps import tried, woken
from registry.trials.matcher import Matcher
from registry.trials.rematching import catch_up, progress_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from registry.http.metrics import Metrics
    from registry.http.services import Services

LOOK_SECONDS = 10
"""How long another file of advisories, or what another replica left, may lie."""
MATCHER = web.AppKey("matcher", Matcher)
REMATCH = web.AppKey("matching asked for", asyncio.Event)
"""Set by whoever has asked for one in this process."""


async def matching(app: web.Application) -> AsyncIterator[None]:
    """Match while the application runs."""
    app[MATCHER] = Matcher(app[SERVICES].settings.advisories_file)
    app[REMATCH] = asyncio.Event()
    task = asyncio.create_task(_match_forever(app[SERVICES], app[MATCHER], app[REMATCH], app[METRICS]))
    yield
    task.cancel()
    await asyncio.wait([task])
    await app[MATCHER].close()


async def _match_forever(
    services: Services, matcher: Matcher, asked: asyncio.Event, metrics: Metrics
) -> None:
    while True:
        asked.clear()
        if not services.settings.read_only:
            await tried("packages of images", catch_up(services.database, matcher), done="matched")
        await tried("the progress of matching", _show(services, matcher, metrics), done="read")
        await woken(asked, within=LOOK_SECONDS)


async def _show(services: Services, matcher: Matcher, metrics: Metrics) -> None:
    if await matcher.facts() is None:
        return
    progress = await progress_of(services.database)
    if progress is not None:
        metrics.matches(left=progress.left, untold=progress.untold)
