"""When, from where and by what program credentials of one kind were last used: written together, and never on
the path of a request."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

NOTED_SECONDS = 60.0
"""A credential's use is written so often at most."""
FLUSH_SECONDS = 5.0
"""Uses are written together, so long after the first of them."""
_NOTED_MAX = 100_000
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Use:
    """From where and by what program."""

    address: str | None
    client: str | None


class Uses:
    """One per process and kind of credential; ``write`` writes uses down by the credentials' ids, of which
    there is one at least."""

    def __init__(self, kind: str, write: Callable[[Mapping[str, Use]], Awaitable[None]]) -> None:
        self._kind = kind
        self._write = write
        self._noted: dict[str, float] = {}
        self._uses: dict[str, Use] = {}
        self._ending = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def note(self, credential_id: str, *, address: str | None, client: str | None) -> None:
        """The credential was used just now."""
        now = time.monotonic()
        if now - self._noted.get(credential_id, -NOTED_SECONDS) < NOTED_SECONDS:
            return
        if len(self._noted) >= _NOTED_MAX:
            self._noted.clear()
        self._noted[credential_id] = now
        self._uses[credential_id] = Use(address, client)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_while_noted())

    async def close(self) -> None:
        """Write the uses that are not yet written."""
        self._ending.set()
        if self._writing is not None:
            await self._writing

    async def _write_while_noted(self) -> None:
        try:
            while self._uses:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), FLUSH_SECONDS)
                uses, self._uses = self._uses, {}
                try:
                    await self._write(uses)
                except DBAPIError as error:
                    # A full disk must not keep anyone from pulling or deleting.
                    lost = {"kind": self._kind, "count": len(uses), "error": type(error.orig).__name__}
                    _log.warning("uses_not_noted", **lost)
        finally:
            self._writing = None
