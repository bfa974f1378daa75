"""Judging of images by their findings in this process: what somebody asked for, and what time changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from registry.http.parsers import PARSERS
from registry.http.services import SERVICES
from registry.http.sweeps import tried
from registry.trials.judging import judge_due

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LOOK_SECONDS = 2
"""How long what another process asked for may lie."""


async def judging(app: web.Application) -> AsyncIterator[None]:
    """Judge while the application runs."""
    task = asyncio.create_task(_judge_forever(app))
    yield
    task.cancel()
    await asyncio.wait([task])


async def _judge_forever(app: web.Application) -> None:
    services = app[SERVICES]
    while True:
        judged = 0
        if not services.settings.read_only:
            due = judge_due(services.database, services.blobs, parsers=app[PARSERS])
            judged = await tried("findings of images", due, done="judged") or 0
        # What is left undone stays due, and must not keep this busy.
        await asyncio.sleep(0.1 if judged else LOOK_SECONDS)
