"""A bounded cache of what access rows said, forgotten as soon as any of them changes."""

from __future__ import annotations

import time
from typing import Generic, TypeVar

V = TypeVar("V")
MAX_ENTRIES = 10_000


class EpochCache(Generic[V]):
    """Entries hold for one value of the access epoch and for some seconds.

    The epoch is read before the rows: an entry may be newer than its epoch, never older.
    """

    def __init__(self) -> None:
        self._epoch = -1
        self._entries: dict[bytes, tuple[V, float]] = {}

    def get(self, key: bytes, *, epoch: int) -> tuple[V, float] | None:
        """The value, if it was put under this epoch and its time is not up, and until when it holds
        (:func:`time.monotonic`)."""
        if epoch != self._epoch:
            return None
        found = self._entries.get(key)
        return found if found is not None and time.monotonic() < found[1] else None

    def put(self, key: bytes, value: V, *, epoch: int, seconds: float) -> float:
        """Remember ``value``, and return until when it holds; a full cache starts anew."""
        until = time.monotonic() + seconds
        if epoch < self._epoch:
            return until
        if epoch != self._epoch or len(self._entries) >= MAX_ENTRIES:
            self._entries.clear()
        self._epoch = epoch
        self._entries[key] = (value, until)
        return until
