"""The queue at its full size: is anything lost or run twice, who waits how long, what does a claim take; and
what becomes of what a killed worker had, and of an image that kills each worker."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from sqlalchemy import func, select, text

from registry.db.engine import Database
from registry.db.migrate import upgrade
from registry.db.trials import parts, trials
from registry.errors import ConflictError
from registry.settings import Settings
from registry.trials.queue import Claimed, renew
from registry.trials.verdicts import Reporter
from tests.bench.commands import before_others
from tests.bench.figures import Figure, over
from tests.bench.manifests import binaries, postmaster
from tests.bench.processes import tree
from tests.kit.postgres import PostgresServer, running_postgres
from tests.kit.queueing import PLATFORM, Shift, hire, queue_images, unfairness

WARM = 5
CLAIMS = 50
CLAIM_MILLISECONDS = 10
BACK_SECONDS = 30
_LIMIT_SECONDS = 1800.0


def scheduling(scratch: Path) -> Iterator[Figure]:
    """100 workers and 10,000 trials on PostgreSQL, 10 and 1,000 on SQLite."""
    with running_postgres(binaries()) as postgres:
        yield from uvloop.run(_shift(postgres, postgres.url(postgres.create()), 100, 10_000))
    yield from uvloop.run(_shift(None, f"sqlite:///{scratch / 'queue.db'}", 10, 1_000))


@dataclass(slots=True)
class _Crew:
    """Workers of whom some die. ``poison`` is the part that kills each who has it; ``left`` what another had
    who was killed, and since when; ``back_seconds`` until somebody had that again."""

    shift: Shift
    poison: str
    left: str
    since: float
    alive: set[Reporter] = field(default_factory=set)
    back_seconds: float | None = None

    async def work(self) -> None:
        """All that live, until there is nothing left that they could have now."""
        async with asyncio.TaskGroup() as group:
            for worker in self.alive.copy():
                group.create_task(self._work(worker))

    async def _work(self, worker: Reporter) -> None:
        while (job := await self.shift.claim(worker)) is not None:
            if job.part == self.left:
                self.back_seconds = time.monotonic() - self.since
            if job.part == self.poison:
                self.alive.discard(worker)
                self.shift.held.discard(job.part)
                return
            await self._report(worker, job)

    async def _report(self, worker: Reporter, job: Claimed) -> None:
        """As a worker does it: the lease is renewed until the report is taken, however long that is."""
        keeping = asyncio.create_task(self._keep(worker, job))
        try:
            await self.shift.report(worker, job)
        finally:
            keeping.cancel()
            await asyncio.wait((keeping,))

    async def _keep(self, worker: Reporter, job: Claimed) -> None:
        settings = self.shift.settings
        with suppress(ConflictError):  # the report was taken meanwhile
            while True:
                await asyncio.sleep(settings.lease_seconds / 3)
                await renew(self.shift.database, settings, worker=worker, lease=job.lease)


async def _shift(server: PostgresServer | None, url: str, crew: int, count: int) -> list[Figure]:
    await asyncio.to_thread(upgrade, url)
    database = Database(url)
    shift = Shift(database, Settings(data=Path("/nonexistent"), trial_platforms=(PLATFORM,)))
    try:
        async with asyncio.timeout(_LIMIT_SECONDS):
            return await _measure(shift, server, crew, count)
    finally:
        await database.close()


async def _measure(shift: Shift, server: PostgresServer | None, crew: int, count: int) -> list[Figure]:
    database = shift.database
    # One repository has as many as all others together.
    queued = {"big/one": count // 2}
    queued |= {f"small/{number}": count // 2 // crew for number in range(crew)}
    for name, many in queued.items():
        await queue_images(database, shift.settings, name, many)
    async with database.write() as connection:
        await connection.execute(text("ANALYZE"))
    workers = await hire(database, [f"w{number}" for number in range(crew)])
    claims = await _claims(shift, workers[0], server)
    killed, dies = workers[0], workers[1]
    left, since = await shift.claim(killed), time.monotonic()
    poison = await shift.claim(dies)
    assert left is not None
    assert poison is not None
    shift.held.clear()
    at_work = _Crew(shift, poison.part, left.part, since, alive=set(workers[2:]))
    began = time.perf_counter()
    await at_work.work()
    took = time.perf_counter() - began
    while await _left(database):
        await at_work.work()
        await asyncio.sleep(0.2)
    verdicts = await _verdicts(database)
    again = {left.part: 2, poison.part: shift.settings.trial_attempts}
    tries = dict(shift.claims)
    counted = Counter(shift.order)
    counted[left.repository] -= 1
    counted[poison.repository] -= tries[poison.part] - 1
    wrong = sum(abs(counted[name] - many) for name, many in queued.items())
    of = f"{'SQLite' if server is None else 'PostgreSQL'}, {crew} workers and {count} trials"
    return [
        over(f"claim, {of}", claims, "ms", at_most=CLAIM_MILLISECONDS),
        Figure(f"trials lost, {of}", count - 1 - verdicts["pass"] + wrong, "", at_most=0),
        Figure(
            f"trials run twice, {of}",
            sum(times > again.get(part, 1) for part, times in tries.items()),
            "",
            at_most=0,
        ),
        Figure(
            f"longest wait against an equal share, {of}",
            unfairness(shift.order, queued, at_once=min(crew, 20)),
            "x",
            at_most=2,
        ),
        Figure(
            f"until a killed worker's is another's, {of}", at_work.back_seconds, "s", at_most=BACK_SECONDS
        ),
        Figure(
            f"workers that a poisoned image kills, {of}",
            tries[poison.part] if verdicts["error"] == 1 else None,
            "",
            at_most=shift.settings.trial_attempts,
            at_least=shift.settings.trial_attempts,
        ),
        Figure(f"claims and reports in a second, {of}", len(shift.order) / took, ""),
    ]


async def _claims(shift: Shift, worker: Reporter, server: PostgresServer | None) -> Collection[float]:
    """Milliseconds of claims, one at a time: what a claim takes, and not what a hundred of them take of two
    processors, nor what neighbours do."""
    await _one_after_the_other(shift, worker, WARM)  # connections and statements are made
    before = len(shift.seconds)
    with before_others(*(() if server is None else tree(postmaster(server)))):
        await _one_after_the_other(shift, worker, CLAIMS)
    return [seconds * 1000 for seconds in shift.seconds[before:]]


async def _one_after_the_other(shift: Shift, worker: Reporter, count: int) -> None:
    for _ in range(count):
        job = await shift.claim(worker)
        assert job is not None
        await shift.report(worker, job)


async def _verdicts(database: Database) -> Counter[str]:
    async with database.read() as connection:
        done = select(trials.c.verdict, func.count()).where(trials.c.state == "done")
        return Counter({row[0]: row[1] for row in await connection.execute(done.group_by(trials.c.verdict))})


async def _left(database: Database) -> int:
    async with database.read() as connection:
        waiting = select(func.count()).where(parts.c.state != "done")
        return (await connection.execute(waiting)).scalar_one()
