"""Long polls that do not hammer the database, and how many of them nobody in particular may hold."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from registry.auth.buckets import place_of
from registry.db.engine import Bell
from registry.errors import TooManyRequestsError

if TYPE_CHECKING:
    from registry.auth.actor import Actor

OF_A_PLACE = 10
"""So many requests that come from one place, and did not sign in, wait in a process at once."""
OF_ALL = 200
"""So many of all places."""
POLL_SECONDS = 1.0
"""How late a change made by another replica is noticed at most; one of this process is noticed at once."""


class Ringing(Protocol):
    """What rings when something has changed: the database, or the courier for the feed of events."""

    @property
    def bell(self) -> Bell:
        """The bell."""


async def looks(ringing: Ringing, *, seconds: float) -> AsyncGenerator[None, None]:
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


class Waiters:
    """Who waits in one process: with each change all of them look."""

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """How many that did not sign in."""
        return self._waiting.total()

    async def looks(self, ringing: Ringing, actor: Actor, *, seconds: float) -> AsyncGenerator[None, None]:
        """As :func:`looks`; only at once, where the actor has no room to wait. Close it when done."""
        looking = looks(ringing, seconds=seconds)
        await anext(looking)
        yield
        with suppress(TooManyRequestsError), self.room(actor, seconds=seconds):
            async for _ in looking:
                yield

    @contextmanager
    def room(self, actor: Actor, *, seconds: float) -> Iterator[None]:
        """Let the actor wait so long while the block runs.

        Raises:
            TooManyRequestsError: it did not sign in, and enough of those wait already.
        """
        if not seconds or actor.kind != "anonymous":
            yield
            return
        place = place_of(actor.address)
        if self._waiting[place] >= OF_A_PLACE or self.count >= OF_ALL:
            raise TooManyRequestsError(
                "too many requests wait already that did not sign in; sign in, ask without wait, or later",
                headers={"Retry-After": "5"},
            )
        self._waiting[place] += 1
        try:
            yield
        finally:
            self._waiting[place] -= 1
            if not self._waiting[place]:
                del self._waiting[place]
