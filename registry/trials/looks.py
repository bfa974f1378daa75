"""Looks at logs while they are written, shared: however many watch one from the same place, it is one look.

Whoever has read as far as others have waits with them, and so looks with them from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from registry.db.engine import Database
from registry.trials.livelog import Cursor, Look, look

_Key = tuple[str, tuple[Cursor, ...], float]


@dataclass(slots=True)
class _Coming:
    """A look, and how many wait for it."""

    found: asyncio.Task[Look | None]
    waiting: int = 0


@dataclass(slots=True)
class Looks:
    """The looks of this process."""

    _coming: dict[_Key, _Coming] = field(default_factory=dict)

    async def take(
        self, database: Database, trial_id: str, cursors: Sequence[Cursor], *, after_seconds: float
    ) -> Look | None:
        """What :func:`~registry.trials.livelog.look` gives, at a moment after this call; within
        ``after_seconds``, for whoever comes to others that wait so long."""
        key = (trial_id, tuple(cursors), after_seconds)
        coming = self._coming.get(key)
        if coming is None:
            coming = self._coming[key] = _Coming(asyncio.create_task(self._look(database, key)))
        coming.waiting += 1
        try:
            # Whoever goes away takes it from nobody else.
            return await asyncio.shield(coming.found)
        finally:
            coming.waiting -= 1
            if not coming.waiting:
                coming.found.cancel()
                if self._coming.get(key) is coming:
                    del self._coming[key]

    async def _look(self, database: Database, key: _Key) -> Look | None:
        trial_id, cursors, after_seconds = key
        # Without a pause too, those go first who were woken together with whoever asked.
        await asyncio.sleep(after_seconds)
        # From here on it may miss what is written: who comes now gets another.
        del self._coming[key]
        return await look(database, trial_id, cursors)
