"""One statement that reads from SQLite, in one trip to a thread.

The asynchronous driver would make three (see onetrip.py): for what begins a transaction, the statement, and
what ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Engine, Executable, FrozenResult, Result

THREADS = 4


class OneRead:
    """Stands where a connection does, and knows nothing but to read with one statement."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sqlite-read")

    async def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | None = None
    ) -> Result[Any]:
        """The rows, all of them read already."""
        loop = asyncio.get_running_loop()
        return (await loop.run_in_executor(self._threads, self._execute, statement, parameters))()

    def close(self) -> None:
        """Give threads and connections back."""
        self._threads.shutdown(wait=True)
        self._engine.dispose()

    def _execute(self, statement: Executable, parameters: Mapping[str, Any] | None) -> FrozenResult[Any]:
        with self._engine.connect() as connection:
            return connection.execute(statement, parameters).freeze()
