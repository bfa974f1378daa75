"""The copier of this process: begins and ends with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from registry.http.parsers import PARSERS
from registry.http.services import SERVICES
from registry.net.guarded import GuardedClient
from registry.net.names import OwnThreads
from registry.trials.copying import AT_ONCE, Copier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web


async def copying(app: web.Application) -> AsyncIterator[None]:
    """Copy images of other registries while the application runs."""
    services = app[SERVICES]
    # Connections and lookups of its own: a registry that hangs must keep nobody from signing in.
    client = GuardedClient(
        services.settings.outgoing_networks,
        resolver=OwnThreads(most=2 * AT_ONCE),
        connections=2 * AT_ONCE,
        per_host=AT_ONCE,
    )
    copier = Copier(
        database=services.database,
        store=services.blobs,
        settings=services.settings,
        secret_key=services.secret_key,
        client=client,
        effects=services.effects,
        parsers=app[PARSERS],
    )
    task = asyncio.create_task(copier.run())
    yield
    task.cancel()
    await asyncio.wait([task])
    await client.close()
