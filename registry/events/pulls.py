"""Pulls, counted by actor, repository, digest and day: who has an image.

A pull writes nothing by itself: each process counts in memory and writes its sums every few seconds and when
it ends. A kill loses what was counted since.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select, update

from registry.db.dialect import insert
from registry.db.events import audit_keeping, pull_days
from registry.db.types import db_time
from registry.events.keeping import day_of, lock_keeping

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from registry.db.engine import Database

KEYS_MAX = 20_000
"""What a process tells apart at most between two writings; of pulls beyond only the number is known."""
_ROWS_AT_ONCE = 100


class Pulled(NamedTuple):
    """Who pulled what, where; a worker is an actor as everybody else."""

    actor: str
    repository: str
    digest: str


class Tally:
    """What is counted up for each pull: of ``pulled``, by ``tag`` or by none. Whoever answers the same again
    and again keeps it, as to find it would cost more than to count."""

    __slots__ = ("address", "at", "count", "pulled", "tag")

    def __init__(self, pulled: Pulled, tag: str | None) -> None:
        self.pulled = pulled
        self.tag = tag
        self.count = 0
        self.at = 0.0
        self.address: str | None = None

    def add(self, other: Tally) -> None:
        """Count what another has counted of the same."""
        self.count += other.count
        if other.at >= self.at:
            self.at, self.address, self.tag = other.at, other.address, other.tag


class PullCounts:
    """What one process has counted and not yet written. ``clock`` is that of ``at``."""

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._counted: list[Tally] = []
        self._unwritten: dict[Pulled, Tally] = {}
        self.lost = 0
        """Pulls that were not counted, as there were too many to remember."""

    def note(self, tally: Tally, address: str | None, at: float) -> None:
        """Count one pull from ``address`` at ``at``. Called for each: it has to cost nothing."""
        if not tally.count:
            if len(self._counted) >= KEYS_MAX:
                self.lost += 1
                return
            self._counted.append(tally)
        tally.count += 1
        tally.at = at
        tally.address = address

    async def flush(self, database: Database) -> None:
        """Write what was counted. What cannot be written is kept for the next time.

        Raises:
            SQLAlchemyError: the database does not take it now.
        """
        counted, self._counted = self._counted, []
        for tally in counted:
            self._gather(tally)
            tally.count = 0
        # In the order of the key: two replicas that write the same rows must not wait for each other.
        waiting = sorted(self._unwritten.items())
        self._unwritten = {}
        try:
            while waiting:
                await self._write(database, waiting[:_ROWS_AT_ONCE])
                del waiting[:_ROWS_AT_ONCE]
        finally:
            for _, tally in waiting:
                self._gather(tally)

    def _gather(self, tally: Tally) -> None:
        known = self._unwritten.get(tally.pulled)
        if known is None:
            if len(self._unwritten) >= KEYS_MAX:
                self.lost += tally.count
                return
            known = self._unwritten[tally.pulled] = Tally(tally.pulled, tally.tag)
        known.add(tally)

    async def _write(self, database: Database, several: Sequence[tuple[Pulled, Tally]]) -> None:
        async with database.write() as connection:
            await lock_keeping(connection)
            now = (await connection.execute(select(db_time()))).scalar_one()
            clock = self._clock()
            rows = []
            for pulled, tally in several:
                at = now - timedelta(seconds=clock - tally.at)
                rows.append(
                    {
                        **pulled._asdict(),
                        "day": day_of(at),
                        "count": tally.count,
                        "last_at": at,
                        "address": tally.address,
                        "tag": tally.tag,
                    }
                )
            adding = insert(connection, pull_days).values(rows)
            new = adding.excluded
            adding = adding.on_conflict_do_update(
                index_elements=["digest", "day", "repository", "actor"],
                set_={
                    "count": pull_days.c.count + new.count,
                    "last_at": new.last_at,
                    "address": new.address,
                    "tag": new.tag,
                },
            )
            returned = await connection.execute(
                adding.returning(
                    pull_days.c.actor, pull_days.c.repository, pull_days.c.digest, pull_days.c.count
                )
            )
            counted = {pulled: tally.count for pulled, tally in several}
            # A row that was there has more than what was added.
            made = sum(counted[Pulled(*row[:3])] == row[3] for row in returned)
            await connection.execute(update(audit_keeping).values(pull_rows=audit_keeping.c.pull_rows + made))
