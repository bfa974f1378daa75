"""The queue at its full size: is anything lost or run twice, who waits how long, what does a claim take."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import uvloop
from sqlalchemy import func, select, text, update

from registry.db.engine import Database
from registry.db.migrate import upgrade
from registry.db.trials import parts, trials
from registry.db.types import db_time
from registry.settings import Settings
from tests.bench.figures import Figure, over
from tests.bench.manifests import binaries
from tests.kit.postgres import running_postgres
from tests.kit.queueing import PLATFORM, Shift, hire, queue_images, unfairness

CLAIMS = 50
CLAIM_MILLISECONDS = 10


def scheduling(scratch: Path) -> Iterator[Figure]:
    """100 workers and 10,000 trials on PostgreSQL, 10 and 1,000 on SQLite."""
    with running_postgres(binaries()) as postgres:
        yield from uvloop.run(_shift("PostgreSQL", postgres.url(postgres.create()), 100, 10_000))
    yield from uvloop.run(_shift("SQLite", f"sqlite:///{scratch / 'queue.db'}", 10, 1_000))


async def _shift(kind: str, url: str, crew: int, count: int) -> list[Figure]:
    await asyncio.to_thread(upgrade, url)
    database = Database(url)
    shift = Shift(database, Settings(data=Path("/nonexistent"), trial_platforms=(PLATFORM,)))
    try:
        return await _measure(kind, shift, crew, count)
    finally:
        await database.close()


async def _measure(kind: str, shift: Shift, crew: int, count: int) -> list[Figure]:
    database = shift.database
    # One repository has as many as all others together.
    queued = {"big/one": count // 2}
    queued |= {f"small/{number}": count // 2 // crew for number in range(crew)}
    for name, many in queued.items():
        await queue_images(database, shift.settings, name, many)
    async with database.write() as connection:
        await connection.execute(text("ANALYZE"))
    workers = await hire(database, [f"w{number}" for number in range(crew)])
    # One at a time: what a claim takes, and not what a hundred of them take of two processors.
    for worker in workers[:1] * CLAIMS:
        job = await shift.claim(worker)
        assert job is not None
        await shift.report(worker, job)
    claims = [seconds * 1000 for seconds in shift.seconds]
    lost = await shift.claim(workers[0])
    assert lost is not None
    shift.held.clear()
    began = time.perf_counter()
    await shift.run(workers[1:])
    took = time.perf_counter() - began
    async with database.write() as connection:
        await connection.execute(
            update(parts).where(parts.c.state == "leased").values(lease_expires_at=db_time())
        )
    while await _left(database):
        await shift.run(workers[1:])
        await asyncio.sleep(0.2)
    async with database.read() as connection:
        passed = select(func.count()).where(trials.c.state == "done", trials.c.verdict == "pass")
        done = (await connection.execute(passed)).scalar_one()
    shift.claims[lost.part] -= 1
    counted = Counter(shift.order) - Counter([lost.repository])
    doubles = sum(times > 1 for times in shift.claims.values())
    wrong = sum(abs(counted[name] - many) for name, many in queued.items())
    of = f"{kind}, {crew} workers and {count} trials"
    return [
        over(f"claim, {of}", claims, "ms", at_most=CLAIM_MILLISECONDS),
        Figure(f"trials lost, {of}", count - done + wrong, "", at_most=0),
        Figure(f"trials run twice, {of}", doubles, "", at_most=0),
        Figure(
            f"longest wait against an equal share, {of}",
            unfairness(shift.order, queued, at_once=min(crew, 20)),
            "x",
            at_most=2,
        ),
        Figure(f"claims and reports in a second, {of}", count / took, ""),
    ]


async def _left(database: Database) -> int:
    async with database.read() as connection:
        waiting = select(func.count()).where(parts.c.state != "done")
        return (await connection.execute(waiting)).scalar_one()
