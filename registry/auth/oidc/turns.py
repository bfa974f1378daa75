"""Who may make the registry ask an issuer, and how often at once.

Anybody can begin a sign-in and come back from it with an invented code, for which the issuer is asked.
Without a bound by place, one stranger would hold all connections to the issuer: nobody else could sign in.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from registry.auth.buckets import site_of
from registry.errors import TooManyRequestsError

MAX_OF_A_SITE = 8
"""One asks, the others wait for it."""


class Turns:
    """One per process."""

    def __init__(self) -> None:
        self._there: Counter[str] = Counter()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, address: str | None) -> AsyncIterator[None]:
        """Alone, of those who come from one place, while the block runs.

        Raises:
            TooManyRequestsError: enough wait already.
        """
        site = site_of(address)
        if self._there[site] >= MAX_OF_A_SITE:
            raise TooManyRequestsError(
                "too many sign-ins come back from there at once; try again", headers={"Retry-After": "2"}
            )
        lock = self._locks.setdefault(site, asyncio.Lock())
        self._there[site] += 1
        try:
            async with lock:
                yield
        finally:
            self._there[site] -= 1
            if not self._there[site]:
                del self._there[site]
