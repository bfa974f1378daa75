"""A blob's bytes, read once more and hashed: are they still those that were pushed?

They are read slowly, a range at a time, so that nobody who pulls waits for it. From a disk they are read
anew: what the system remembers of a file says nothing of what lies there.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from typing import TYPE_CHECKING

from registry.errors import BlobUnknownError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from registry.content.quarantine import Damage
    from registry.content.storedblobs import StoredBlob
    from registry.storage.store import BlobStore, OpenBlob
    from registry.storage.threads import Threads

_RANGE_LEAST, _RANGE_MOST = 1 << 20, 16 << 20
"""So much is read between two pauses: a few seconds' worth. The answer of a store that is read slowly would
break off."""
_RANGE_SECONDS = 4
_BURST_SECONDS = 1.0
FAULT_PAUSES_SECONDS = (1.0, 5.0)
"""After how long a blob that cannot be read is tried again."""


class Pace:
    """Lets so many bytes pass in a second, over any few seconds; it may be changed meanwhile."""

    def __init__(self, bytes_per_second: int) -> None:
        self.bytes_per_second = bytes_per_second
        self._until = time.monotonic()

    @property
    def range_bytes(self) -> int:
        """How much to read between two pauses."""
        return max(_RANGE_LEAST, min(self.bytes_per_second * _RANGE_SECONDS, _RANGE_MOST))

    async def passed(self, length: int) -> None:
        """Wait until ``length`` more bytes may have passed."""
        now = time.monotonic()
        # Time that nothing was read in is not made up for.
        self._until = max(self._until, now - _BURST_SECONDS) + length / self.bytes_per_second
        if self._until > now:
            await asyncio.sleep(self._until - now)


async def examine(
    store: BlobStore,
    blob: StoredBlob,
    *,
    pace: Pace,
    threads: Threads,
    advance: Callable[[int], Awaitable[None]],
) -> Damage | None:
    """What is wrong with the blob's bytes; ``None``: nothing. ``advance`` is told how much more was read.

    Raises:
        UnavailableError: the store itself cannot be read at the moment.
    """
    found = await _examine(store, blob, pace=pace, threads=threads, advance=advance)
    if found == "missing":
        # Where the store is not there at all this raises.
        await store.free_bytes()
    if found == "digest":
        # Once more: it may have been memory, or the way here.
        found = await _examine(store, blob, pace=pace, threads=threads, advance=advance)
    return found


async def _examine(
    store: BlobStore,
    blob: StoredBlob,
    *,
    pace: Pace,
    threads: Threads,
    advance: Callable[[int], Awaitable[None]],
) -> Damage | None:
    for pause in (*FAULT_PAUSES_SECONDS, None):
        try:
            return await _compare(store, blob, pace=pace, threads=threads, advance=advance)
        except UnavailableError:
            # Where nothing can be read this raises, and nothing is said of the blob.
            await store.free_bytes()
            if pause is not None:
                await asyncio.sleep(pause)
    return "unreadable"


async def _compare(
    store: BlobStore,
    blob: StoredBlob,
    *,
    pace: Pace,
    threads: Threads,
    advance: Callable[[int], Awaitable[None]],
) -> Damage | None:
    state = hashlib.new(blob.digest.algorithm)
    try:
        async with store.open_blob(blob.locator) as opened:
            if opened.size != blob.size:
                return "size"
            _let_be_forgotten(opened)
            first = 0
            while first < blob.size:
                length = min(pace.range_bytes, blob.size - first)
                async for chunk in opened.chunks(first, length):
                    await threads.run(state.update, chunk)
                first += length
                await advance(length)
                await pace.passed(length)
            _let_be_forgotten(opened)
    except BlobUnknownError:
        return "missing"
    return None if state.hexdigest() == blob.digest.encoded else "digest"


def _let_be_forgotten(opened: OpenBlob) -> None:
    """Have the next who reads the file read the disk."""
    if opened.file is not None:
        os.posix_fadvise(opened.file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
