"""Failed sign-ins: how many passwords somebody may guess.

Counted in each process, by where they come from and for which name: nobody can lock another's account by
guessing from elsewhere.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

from registry.errors import TooManyRequestsError

WINDOW_SECONDS = 60.0
_NAMES = 10
"""A place may fail so many times as often as for one name: it may be the proxy of many people."""
_NAME_MAX = 64
_KEPT_MAX = 20_000


class FailedAttempts:
    """Failures of the last minute. ``limit`` is how many are borne for one name from one place."""

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._clock = limit, clock
        self._failures: dict[tuple[str, str | None], tuple[float, int]] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def turn(self, address: str | None) -> asyncio.Lock:
        """To be held from :meth:`require_tries` to :meth:`note`: of passwords sent at once from one place,
        one is counted before the next is looked at."""
        return self._turns.setdefault(place_of(address), asyncio.Lock())

    def require_tries(self, address: str | None, name: str) -> None:
        """Refuse to look at another password.

        Raises:
            TooManyRequestsError: too many were wrong; ``Retry-After`` says when to come back.
        """
        now = self._clock()
        for key, limit in self._keys(address, name):
            began, count = self._failures.get(key, (now, 0))
            left = began + WINDOW_SECONDS - now
            if count >= limit and left > 0:
                raise TooManyRequestsError(
                    "too many sign-ins failed; wait before the next",
                    headers={"Retry-After": str(int(left) + 1)},
                )

    def note(self, address: str | None, name: str) -> None:
        """Count a failure."""
        now = self._clock()
        if len(self._failures) >= _KEPT_MAX:
            self._forget(now)
        for key, _ in self._keys(address, name):
            began, count = self._failures.get(key, (now, 0))
            fresh = now - began >= WINDOW_SECONDS
            self._failures[key] = (now, 1) if fresh else (began, count + 1)

    def _keys(self, address: str | None, name: str) -> tuple[tuple[tuple[str, str | None], int], ...]:
        place = place_of(address)
        return ((place, name[:_NAME_MAX]), self._limit), ((place, None), self._limit * _NAMES)

    def _forget(self, now: float) -> None:
        self._failures = {
            key: entry for key, entry in self._failures.items() if now - entry[0] < WINDOW_SECONDS
        }
        if len(self._failures) >= _KEPT_MAX:
            # Names can be invented without end, places cannot: those are what is kept.
            self._failures = {key: entry for key, entry in self._failures.items() if key[1] is None}


def place_of(address: str | None) -> str:
    """Where somebody is: an IPv4 address, or an IPv6 network, of which one person has all addresses."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return address or ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
