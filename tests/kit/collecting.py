"""Have a registry collect what nothing names any more."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from tests.kit.access import api

_END_SECONDS = 240


async def collect(client: aiohttp.ClientSession) -> dict[str, Any]:
    """Begin a collection, or join that which is going on; as it is at its end."""
    begun = await api(client, "POST", "/collections", status=202)
    async with asyncio.timeout(_END_SECONDS):
        while True:
            found = await api(client, "GET", f"/collections/{begun['id']}")
            if found["ended_at"]:
                return dict(found)
            await asyncio.sleep(0.02)
