"""What it takes to say what would go from a repository with a million tags, and to delete it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from registry.content import repositories as repos
from registry.content import retaining
from registry.content.retentionrules import KeepRule, RetentionPolicy
from registry.content.tagmatching import TagPattern
from registry.db.engine import Database
from registry.db.migrate import upgrade
from tests.bench.figures import Figure, over
from tests.bench.manifests import binaries, postmaster
from tests.bench.processes import tree_cpu_seconds
from tests.kit.postgres import running_postgres
from tests.kit.rows import DRIVERS, Tagged, fill_tagged

ROUNDS = 3
TAGS = 1_000_000
ON_SQLITE = 10
"""So many times fewer there."""
SECONDS = 10
NAME = "long/lists"
POLICY = RetentionPolicy(
    keep=(
        KeepRule(TagPattern("semver", "stable"), last=100, order="version"),
        KeepRule(pulled_days=30, moved_days=30),
        KeepRule(TagPattern("glob", "1.9*")),
    ),
    untagged_days=14,
    referrers_days=90,
    cap=100_000,
)


def retention(scratch: Path) -> Iterator[Figure]:
    """A preview, as a maintainer asks for it, and as a run begins with it."""
    with running_postgres(binaries()) as postgres:
        for name, url, tags, pids in (
            ("SQLite", f"sqlite:///{scratch / 'tags.db'}", TAGS // ON_SQLITE, ()),
            ("PostgreSQL", postgres.url(postgres.create()), TAGS, (postmaster(postgres),)),
        ):
            upgrade(url)
            fill_tagged(url, Tagged(repository=NAME, tags=tags))
            _analyse(url)
            yield from asyncio.run(_measured(name, url, tags, pids))


def _analyse(url: str) -> None:
    parsed = make_url(url)
    engine = create_engine(parsed.set(drivername=DRIVERS[parsed.get_backend_name()]))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()


async def _measured(name: str, url: str, tags: int, pids: tuple[int, ...]) -> list[Figure]:
    database = Database(url)
    try:
        repository = await repos.find(database, NAME)
        assert repository is not None
        seconds: list[float] = []
        longest: list[float] = []
        worked: list[float] = []
        for _ in range(ROUNDS):
            began, cpu = time.perf_counter(), _cpu(pids)
            waiting = asyncio.create_task(_longest_wait())
            plan = await retaining.plan(database, repository, POLICY, limit=1000, pulls_kept_days=365)
            seconds.append(time.perf_counter() - began)
            worked.append(_cpu(pids) - cpu)
            waiting.cancel()
            longest.append(await waiting)
            assert plan.counts.tags == tags
            assert 0 < plan.counts.tags_going < tags
            assert plan.counts.manifests_going > 0
    finally:
        await database.close()
    counts = plan.counts
    what = f"preview of {tags:,} tags and {counts.manifests:,} manifests, {name}"
    note = f"{counts.tags_going:,} tags and {counts.manifests_going:,} manifests would go"
    figure = over(what, seconds, "s", at_most=SECONDS)
    return [
        Figure(**{**{key: getattr(figure, key) for key in Figure.__dataclass_fields__}, "note": note}),
        over(f"{what}, processor time of registry and database", worked, "s"),
        Figure(f"{what}, longest time that others waited", statistics.median(longest), "s"),
    ]


def _cpu(pids: tuple[int, ...]) -> float:
    return time.process_time() + sum(tree_cpu_seconds(pid) for pid in pids)


async def _longest_wait() -> float:
    """How long the loop was busy at most, until cancelled."""
    longest = 0.0
    try:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - began - 0.005)
    except asyncio.CancelledError:
        return longest
