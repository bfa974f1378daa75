"""Runs of retention policies in this process: when it is time for some, when somebody has asked, or when the
replica that was at one is gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from registry.content import retentionruns
from registry.http.services import SERVICES
from registry.http.sweeps import tried, woken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from registry.http.services import Services

LOOK_SECONDS = 60
ASKED = web.AppKey("retention asked for", asyncio.Event)
"""Set by whoever has asked for a run in this process."""


async def retaining(app: web.Application) -> AsyncIterator[None]:
    """Carry retention policies out while the application runs."""
    app[ASKED] = asyncio.Event()
    task = asyncio.create_task(_retain_forever(app[SERVICES], app[ASKED]))
    yield
    task.cancel()
    await asyncio.wait([task])


async def _retain_forever(services: Services, asked: asyncio.Event) -> None:
    while True:
        await woken(asked, within=LOOK_SECONDS)
        asked.clear()
        if not services.settings.read_only:
            await tried("retention", retain(services), done="carried out")


async def retain(services: Services) -> int:
    """Begin what is due, and carry out what nobody is at; how many runs."""
    database, done = services.database, 0
    await retentionruns.begin_due(database)
    while (claimed := await retentionruns.claim(database)) is not None:
        await retentionruns.carry_out(database, services.settings, services.effects, claimed)
        done += 1
    return done
