"""What the runs of a worker may use together, and which of them wait for it.

Memory, processes and disk are given out once: a run that found less than its limit would end for a reason
that is not its image's. Processor time is divided by the kernel, evenly, and is counted only where the
operator set a ceiling.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from registry.contract.limits import Limits
from registry.contract.sizes import shown_size
from sandbox.errors import SandboxError

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that all runs together may use; ``None`` is no bound."""

    memory_bytes: int | None = None
    pids: int | None = None
    cpus: float | None = None

    def defaults(self, limits: Limits) -> Limits:
        """The default limits of a run, none of them above the budget."""
        return limits.model_copy(
            update={
                "memory_bytes": _least(limits.memory_bytes, self.memory_bytes),
                "pids": _least(limits.pids, self.pids),
                "cpus": _least(limits.cpus, self.cpus),
            }
        )

    def require_possible(self, limits: Limits) -> None:
        """A run that asks for more than there is would wait for ever.

        Raises:
            SandboxError: ``worker-error``, retryable: another worker may have it.
        """
        if self.memory_bytes is not None and limits.memory_bytes > self.memory_bytes:
            asked, there = shown_size(limits.memory_bytes), shown_size(self.memory_bytes)
            raise _impossible(f"{asked} of memory", there)
        if self.pids is not None and limits.pids > self.pids:
            raise _impossible(f"{limits.pids} processes", str(self.pids))


class Room:
    """The budget as it is given out: who came first is let in first."""

    def __init__(
        self, budget: Budget | None = None, free_bytes: Callable[[], int | None] = lambda: None
    ) -> None:
        self.budget = budget or Budget()
        self._free_bytes = free_bytes
        self._held: list[Limits] = []
        self._waiting: deque[tuple[asyncio.Future[None], Limits]] = deque()

    @property
    def running(self) -> int:
        """Runs that have been let in."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """Runs that wait for room."""
        return len(self._waiting)

    def must_wait(self, limits: Limits) -> bool:
        """Whether a run that came now would have to wait."""
        return bool(self._waiting) or not self._fits(limits)

    @asynccontextmanager
    async def taken(self, limits: Limits) -> AsyncIterator[None]:
        """Wait until there is room for a run with these limits, and hold it."""
        await self._enter(limits)
        try:
            yield
        finally:
            self._held.remove(limits)
            self._admit()

    async def _enter(self, limits: Limits) -> None:
        if not self.must_wait(limits):
            self._held.append(limits)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (turn, limits)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):
                    self._waiting.remove(entry)
            else:
                # Let in and cancelled in the same moment.
                self._held.remove(limits)
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][1]):
            turn, limits = self._waiting.popleft()
            # One that was cancelled, and has not been told yet, is let in no more.
            if not turn.cancelled():
                self._held.append(limits)
                turn.set_result(None)

    def _fits(self, limits: Limits) -> bool:
        # One alone is never kept waiting: nobody would wake it. What it lacks it then says itself.
        return not self._held or all(self._fitting(limits))

    def _fitting(self, limits: Limits) -> Iterator[bool]:
        budget, together = self.budget, [*self._held, limits]
        if budget.memory_bytes is not None:
            yield sum(one.memory_bytes for one in together) <= budget.memory_bytes
        if budget.pids is not None:
            yield sum(one.pids for one in together) <= budget.pids
        if budget.cpus is not None:
            yield sum(_least(one.cpus, budget.cpus) for one in together) <= budget.cpus + 1e-9
        free = self._free_bytes()
        if free is not None:
            # What the others have written already counts twice: rather wait than run out.
            yield sum(one.written_bytes for one in together) <= free


def _least(value: Number, bound: Number | None) -> Number:
    return value if bound is None else min(value, bound)


def _impossible(asked: str, there: str) -> SandboxError:
    message = f"the run asks for {asked}, and all runs of this worker together have {there}"
    return SandboxError("worker-error", message, retryable=True)
