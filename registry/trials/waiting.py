"""Long polls that do not hammer the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from registry.db.engine import Database

POLL_SECONDS = 1.0
"""How late a change made by another replica is noticed at most; one of this process is noticed at once."""


async def looks(database: Database, *, seconds: float) -> AsyncIterator[None]:
    """Yield when it is worth looking: at once, after each change, and a last time when time is up."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        heard = database.bell.listen()
        yield
        left = end - loop.time()
        if left <= 0 or database.bell.muted:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(heard.wait(), min(left, POLL_SECONDS))
