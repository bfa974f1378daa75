"""Looking whether database, store and attestations agree: what a check is, what it finds, and how that is
mended.

Each check looks at all of one kind and tells what is not as it should be, why, and what mending would do
where that is safe: where it loses nothing that can be had, and where doing it twice does no harm. Mending
looks again, under the locks of those who work beside it: a server may run meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from registry.errors import ConflictError

if TYPE_CHECKING:
    from datetime import timedelta

    from registry.content.repairing import Source
    from registry.db.engine import Database
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads

FOUND_MOST = 10_000
"""So many of one kind are found by one look; once they are mended the next finds more."""


@dataclass(frozen=True, slots=True)
class Problem:
    """``what`` is not as it should be, and ``why``: a digest, a tag, a locator or a number; ``repository``
    where it is in one. ``mend`` is what mending does, ``None`` where nothing is safe; ``remains``: it is
    still wrong then, and does no more harm. A note is no fault."""

    check: str
    what: str
    repository: str | None
    why: str
    mend: str | None = None
    is_note: bool = False
    remains: bool = False
    mended: bool = False


Mend = Callable[[], Awaitable[bool]]
"""Mends one problem, in transactions of its own; whether it was still there. It raises ConflictError where
that cannot be done after all."""


@dataclass(frozen=True, slots=True)
class Found:
    """A problem, and how to mend it where ``problem.mend`` says that one can."""

    problem: Problem
    mend: Mend | None = None


@dataclass(slots=True)
class Look:
    """What checks look at. ``age`` is that of bytes that a collection takes when no row names them.
    ``hashed``: all bytes are read. ``sources`` may have what is damaged. ``advance`` is told how many more
    things were looked at."""

    database: Database
    store: BlobStore
    threads: Threads
    age: timedelta
    hashed: bool = False
    sources: Sequence[Source] = ()
    advance: Callable[[int], None] = lambda _: None
    looked_at: int = 0

    def saw(self, count: int) -> None:
        """So many more things were looked at."""
        self.looked_at += count
        self.advance(count)


Check = Callable[[Look], AsyncIterator[Found]]


@dataclass(slots=True)
class Checked:
    """One check that was made: how many things it looked at, how many of them were wrong, and how many of
    these are no longer, since they were mended; how many it only notes."""

    name: str
    looked_at: int = 0
    wrong: int = 0
    mended: int = 0
    notes: int = 0


@dataclass(slots=True)
class Report:
    """All checks, and the first problems."""

    checks: list[Checked] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def left(self) -> int:
        """How many problems are left."""
        return sum(one.wrong - one.mended for one in self.checks)


async def carry_out(look: Look, checks: Sequence[tuple[str, Check]], *, mend: bool, shown: int) -> Report:
    """Make the checks, and ``mend`` what can be; the first ``shown`` problems are in the report."""
    report = Report()
    for name, check in checks:
        done = Checked(name)
        report.checks.append(done)
        look.looked_at = 0
        async for found in check(look):
            problem = found.problem
            if mend and found.mend is not None:
                try:
                    if not await found.mend():
                        continue  # it has gone meanwhile
                    problem = replace(problem, mended=True)
                except ConflictError as error:
                    problem = replace(problem, why=f"{problem.why}; not mended: {error.message}")
            done.notes += problem.is_note
            done.wrong += not problem.is_note
            done.mended += problem.mended and not problem.remains
            if len(report.problems) < shown:
                report.problems.append(problem)
        done.looked_at = look.looked_at
    return report
