"""The requests that run in this process, and how they come to their end when it is told to stop."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web


class Traffic:
    """Counted from a request's header to the last byte of its answer."""

    def __init__(self) -> None:
        self.draining = False
        """This process takes no part in what is to come: ``/readyz`` says no, connections are not kept."""
        self._running: set[asyncio.Task[object]] = set()

    def note(self) -> None:
        """Count the request that the current task is about."""
        task = asyncio.current_task()
        assert task is not None
        if task not in self._running:
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def finish(self, *, until: float, hurry: asyncio.Event) -> None:
        """Wait for the requests that run now, not for those that begin meanwhile; until a time of the loop,
        or until somebody is in a hurry."""
        running = set(self._running)
        if not running or hurry.is_set():
            return
        hurried = asyncio.create_task(hurry.wait())
        finished = asyncio.create_task(asyncio.wait(running))
        left = max(until - asyncio.get_running_loop().time(), 0)
        await asyncio.wait([hurried, finished], timeout=left, return_when=asyncio.FIRST_COMPLETED)
        for task in (hurried, finished):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


TRAFFIC = web.AppKey("traffic", Traffic)
