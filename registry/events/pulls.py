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


class _Tally:
    __slots__ = ("address", "at", "count", "tag")

    def __init__(self) -> None:
        self.count = 0
        self.at = 0.0
        self.address: str | None = None
        self.tag: str | None = None


class PullCounts:
    """What one process has counted and not yet written."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tallies: dict[Pulled, _Tally] = {}
        self.lost = 0
        """Pulls that were not counted, as there were too many to remember."""

    def note(self, pulled: Pulled, *, tag: str | None, address: str | None) -> None:
        """Count one pull. Called for each: it has to cost nothing."""
        tally = self._tallies.get(pulled)
        if tally is None:
            if len(self._tallies) >= KEYS_MAX:
                self.lost += 1
                return
            tally = self._tallies[pulled] = _Tally()
        tally.count += 1
        tally.at = self._clock()
        tally.address = address
        tally.tag = tag

    async def flush(self, database: Database) -> None:
        """Write what was counted. What cannot be written is counted on.

        Raises:
            SQLAlchemyError: the database does not take it now.
        """
        # In the order of the key: two replicas that write the same rows must not wait for each other.
        waiting = sorted(self._tallies.items())
        self._tallies = {}
        try:
            while waiting:
                await self._write(database, waiting[:_ROWS_AT_ONCE])
                del waiting[:_ROWS_AT_ONCE]
        finally:
            for pulled, tally in waiting:
                self._add(pulled, tally)

    async def _write(self, database: Database, several: Sequence[tuple[Pulled, _Tally]]) -> None:
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

    def _add(self, pulled: Pulled, tally: _Tally) -> None:
        newer = self._tallies.get(pulled)
        if newer is not None:
            newer.count += tally.count
        elif len(self._tallies) < KEYS_MAX:
            self._tallies[pulled] = tally
        else:
            self.lost += tally.count
