"""Long polls that do not hammer the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Protocol

from registry.db.engine import Bell

POLL_SECONDS = 1.0
"""How late a change made by another replica is noticed at most; one of this process is noticed at once."""


class Ringing(Protocol):
    """What rings when something has changed: the database, or the courier for the feed of events."""

    @property
    def bell(self) -> Bell:
        """The bell."""


async def looks(ringing: Ringing, *, seconds: float) -> AsyncIterator[None]:
    """Yield when it is worth looking: at once, after each change, and a last time when time is up."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        heard = ringing.bell.listen()
        yield
        left = end - loop.time()
        if left <= 0 or ringing.bell.muted:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(heard.wait(), min(left, POLL_SECONDS))
