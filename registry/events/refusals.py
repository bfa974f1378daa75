"""Refusals: what was asked for and not given, and sign-ins that failed.

A refusal changes nothing, so there is no transaction to write it in; and whoever is refused can ask again and
again. So each process remembers refusals, and writes for one actor (or address), thing and reason at most one
row a minute, with how many there were. How many different ones it tells apart is bounded too, for each source
and for all together; the rest is counted in one row. A kill loses the last seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.auth.actor import ANONYMOUS
from registry.auth.buckets import place_of
from registry.db.accounts import accounts
from registry.db.dialect import batches
from registry.db.outbox import record
from registry.oci.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry.auth.actor import Actor
    from registry.db.engine import Database
    from registry.db.eventkinds import EventKind

ROW_SECONDS = 60.0
"""One row in so many seconds for the same thing."""
OF_A_SOURCE = 20
"""So many different things a minute are told apart of one account, or of one address."""
OF_ALL = 300
"""So many of all sources together."""
RULE_MAX = 300
_FOLDED = "more than are told apart"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal. ``action`` is the request as a method and a route, ``rule`` the reason as it was told,
    ``target`` a digest, or the user name that a sign-in tried. ``data`` is what else there is to know."""

    kind: EventKind
    actor: Actor
    action: str
    repository: str | None
    target: str | None
    rule: str
    data: Mapping[str, object] = field(default_factory=dict, compare=False)

    @property
    def source(self) -> str:
        """Who has to share a bound: an account, or one person's addresses."""
        if self.actor.account_id is not None:
            return f"account {self.actor.account_id}"
        return place_of(self.actor.address)


_Key = tuple[str | None, ...]


class _Tally:
    __slots__ = ("count", "refusal", "source", "written_at")

    def __init__(self, refusal: Refusal, source: str) -> None:
        self.refusal = refusal
        self.source = source
        self.count = 0
        self.written_at = -inf


class Refusals:
    """What one process remembers."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tallies: dict[_Key, _Tally] = {}
        self._sources: Counter[str] = Counter()
        self._flushing = asyncio.Lock()

    def note(self, refusal: Refusal) -> None:
        """Count a refusal."""
        actor = refusal.actor
        key: _Key = (
            *(refusal.kind, actor.kind, actor.shown, actor.token_id, actor.address),
            *(refusal.action, refusal.repository, refusal.target, refusal.rule),
        )
        tally = self._tallies.get(key)
        if tally is None:
            source = refusal.source
            if len(self._tallies) >= OF_ALL:
                refusal, source = replace(refusal, actor=ANONYMOUS), ""
                key = (_FOLDED, source, refusal.kind)
            elif self._sources[source] >= OF_A_SOURCE:
                key = (_FOLDED, source, refusal.kind)
            tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = _Tally(refusal, source)
            self._sources[source] += 1
        tally.count += 1

    async def flush(self, database: Database, *, everything: bool = False) -> None:
        """Write the rows that are due, or all. Those who ask at once wait for each other: each refusal is
        counted once.

        Raises:
            SQLAlchemyError: the database does not take them now; they are kept.
        """
        async with self._flushing:
            await self._write(database, everything=everything)

    async def _write(self, database: Database, *, everything: bool) -> None:
        now = self._clock()
        self._forget(now)
        due = [
            (key, tally, tally.count)
            for key, tally in self._tallies.items()
            if tally.count and (everything or now - tally.written_at >= ROW_SECONDS)
        ]
        if not due:
            return
        known = await self._accounts(
            database, {tally.refusal.target for _, tally, _ in due if tally.refusal.kind == "sign_in.refused"}
        )
        async with database.write() as connection:
            for key, tally, count in due:
                refusal = tally.refusal
                folded = key[0] == _FOLDED
                target = refusal.target
                if refusal.kind == "sign_in.refused" and target not in known:
                    # Not the name of anybody: some type a password there.
                    target = None
                await record(
                    connection,
                    refusal.kind,
                    None if folded else refusal.repository,
                    refusal.actor,
                    {**({} if folded else {**refusal.data, "action": refusal.action}), "count": count},
                    target=None if folded else target,
                    decision="refused",
                    rule=_FOLDED if folded else printable(refusal.rule[:RULE_MAX]),
                )
        for _, tally, count in due:
            tally.count -= count
            tally.written_at = now

    def _forget(self, now: float) -> None:
        for key, tally in list(self._tallies.items()):
            if not tally.count and now - tally.written_at >= ROW_SECONDS:
                del self._tallies[key]
                self._sources[tally.source] -= 1
                if not self._sources[tally.source]:
                    del self._sources[tally.source]

    async def _accounts(self, database: Database, names: set[str | None]) -> set[str]:
        found: set[str] = set()
        # PostgreSQL takes no NUL, and nobody has such a name.
        for batch in batches(name for name in names if name and "\0" not in name):
            async with database.read_once() as connection:
                rows = await connection.execute(select(accounts.c.name).where(accounts.c.name.in_(batch)))
                found |= set(rows.scalars())
        return found
