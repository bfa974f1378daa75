"""The trail keeps within its days and rows, and says so when it lost some before their time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select, text
from sqlalchemy.engine import Engine

from registry.db.engine import Database
from registry.db.events import audit_keeping, events, pull_days
from registry.db.types import db_time
from registry.events.keeping import ROWS_A_STEP, Kept, keep
from registry.settings import Settings
from tests.kit.access import ask
from tests.kit.server import running_registry

DAY = timedelta(days=1)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await opened.close()


async def add(database: Database, count: int, *, days: float, decision: str = "allowed") -> None:
    """So many events that were so many days ago, the later ones newer."""
    row = {"kind": "tag.moved", "actor": "a", "data": "{}", "decision": decision}
    async with database.write() as connection:
        now = (await connection.execute(select(db_time()))).scalar_one()
        began = now - days * DAY
        await connection.execute(
            insert(events), [{**row, "at": began + timedelta(milliseconds=number)} for number in range(count)]
        )


async def add_pulls(database: Database, count: int, *, days_ago: int) -> None:
    async with database.write() as connection:
        now = (await connection.execute(select(db_time()))).scalar_one()
        day = int(now.timestamp()) // 86400 - days_ago
        row = {"digest": "d", "repository": "r", "day": day, "count": 1, "last_at": now}
        await connection.execute(
            insert(pull_days), [{**row, "actor": f"{days_ago} {number}"} for number in range(count)]
        )
        await connection.execute(insert(audit_keeping).values(id=1, pull_rows=count))


async def count(database: Database, table: Any = events, **where: str) -> int:
    query = select(func.count()).select_from(table)
    for name, value in where.items():
        query = query.where(table.c[name] == value)
    async with database.read() as connection:
        return int((await connection.execute(query)).scalar_one())


async def kept(database: Database, **settings: int) -> list[Kept]:
    """Steps until nothing is left to do."""
    steps = []
    while True:
        step = await keep(database, Settings(**settings))  # type: ignore[arg-type]
        assert step is not None
        steps.append(step)
        if not step.more:
            return steps


async def test_what_is_too_old_goes_in_small_steps_without_an_alarm(database: Database) -> None:
    await add(database, 2 * ROWS_A_STEP + 10, days=31)
    await add(database, 20, days=29)
    steps = await kept(database, audit_keep_days=30)
    assert [step.expired for step in steps] == [ROWS_A_STEP, ROWS_A_STEP, 10]
    assert sum(step.shortened for step in steps) == 0
    assert not steps[-1].alarm
    assert (await count(database), steps[-1].event_rows) == (20, 20)


async def test_what_is_too_much_goes_before_its_time_and_that_is_told(database: Database) -> None:
    await add(database, 1700, days=2)
    first = (await kept(database, audit_max_rows=1000))[-1]
    assert first.alarm
    assert await count(database) == 1001
    async with database.read() as connection:
        query = select(events).where(events.c.kind == "audit.shortened")
        (told,) = (await connection.execute(query)).all()
        oldest = (await connection.execute(select(func.min(events.c.id)))).scalar_one()
    assert json.loads(told.data)["max_rows"] == 1000
    assert (told.actor_kind, oldest) == ("registry", 701)
    async with database.write() as connection:
        await connection.execute(events.update().values(at=db_time(-DAY)))  # or it were not yet counted
    # What goes on being too much is told once an hour.
    await add(database, 500, days=0.9)
    assert (await kept(database, audit_max_rows=1000))[-1].alarm
    assert await count(database, kind="audit.shortened") == 1
    async with database.read() as connection:
        assert (await connection.execute(select(audit_keeping.c.shortened_rows))).scalar_one() == 1201


async def test_refusals_push_out_nothing_but_refusals(database: Database) -> None:
    await add(database, 700, days=3)
    await add(database, 2000, days=2, decision="refused")
    steps = await kept(database, audit_max_rows=1000)
    assert await count(database, decision="refused") == 250
    assert await count(database, decision="allowed") == 701  # and the row that tells of it
    assert (steps[-1].event_rows, steps[-1].refused_rows) == (950, 250)
    assert steps[-1].alarm


async def test_what_is_old_is_not_what_is_too_much(database: Database) -> None:
    await add(database, 1500, days=40)
    await add(database, 900, days=1)
    steps = await kept(database, audit_max_rows=1000, audit_keep_days=30)
    assert sum(step.expired for step in steps) == 1500
    assert sum(step.shortened for step in steps) == 0
    assert not steps[-1].alarm


async def test_pulls_have_the_same_bounds(database: Database) -> None:
    await add_pulls(database, 40, days_ago=31)
    steps = await kept(database, audit_keep_days=30)
    assert (steps[-1].pull_rows, await count(database, pull_days)) == (0, 0)
    assert not steps[-1].alarm


async def test_too_many_pulls_are_an_alarm_too(database: Database) -> None:
    await add_pulls(database, 1600, days_ago=1)
    last = (await kept(database, audit_max_rows=1000))[-1]
    assert (last.pull_rows, await count(database, pull_days)) == (1000, 1000)
    assert last.alarm


async def test_the_newest_rows_are_counted_when_they_are_all_there(database: Database) -> None:
    await add(database, 5, days=0)
    assert (await kept(database))[-1].event_rows == 0
    await add(database, 3, days=1)
    assert (await kept(database))[-1].event_rows == 0
    async with database.write() as connection:
        await connection.execute(events.update().values(at=db_time(-DAY)))
    assert (await kept(database))[-1].event_rows == 8


async def test_no_step_reads_the_whole_trail(database: Database) -> None:
    await add(database, 12_000, days=40)
    await add(database, 4_000, days=2, decision="refused")
    await add_pulls(database, 20_000, days_ago=1)
    async with database.write() as connection:
        await connection.execute(text("ANALYZE"))
    await keep(database, Settings(audit_max_rows=1000))  # counts; what follows is the everyday
    seen: list[tuple[str, Any]] = []

    def remember(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "events" in statement or "pull_days" in statement:
            seen.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", remember)
    try:
        await keep(database, Settings(audit_max_rows=1000))
        await keep(database, Settings(audit_max_rows=1000, audit_keep_days=30))
    finally:
        event.remove(Engine, "before_cursor_execute", remember)
    assert sum(statement.startswith("DELETE") for statement, _ in seen) >= 6
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
    for statement, parameters in seen:
        if statement.startswith("INSERT"):
            continue
        async with database.write() as connection:
            rows = (await connection.exec_driver_sql(explain + statement, parameters)).all()
        plan = [str(row[-1]) for row in rows]
        tables = ("events", "pull_days")
        whole = [f"SCAN {table}" for table in tables] + [f"Seq Scan on {table} " for table in tables]
        found = [step for step in plan for each in whole if each in step and "USING" not in step]
        assert found == [], (statement, plan)


async def test_replicas_take_turns(database: Database, database_url: str) -> None:
    await add(database, 3000, days=400)
    other = Database(database_url)

    async def all_steps(which: Database) -> int:
        removed = 0
        while await count(which):
            step = await keep(which, Settings())
            removed += step.expired if step else 0
        return removed

    assert sum(await asyncio.gather(all_steps(database), all_steps(other))) == 3000
    await other.close()
    async with database.read() as connection:
        assert (await connection.execute(select(audit_keeping.c.event_rows))).scalar_one() == 0


async def test_the_alarm_is_seen_by_whoever_watches(tmp_path: Path, database_url: str) -> None:
    database = Database(database_url)
    await add(database, 1200, days=2)
    await database.close()
    async with (
        running_registry(tmp_path / "data", database_url, audit_max_rows=1000) as registry,
        registry.client() as client,
    ):
        async with asyncio.timeout(60):
            while (ready := await ask(client, "GET", "/readyz")).json["audit"] == "ok":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert (ready.status, ready.json["audit"], ready.json["status"]) == (200, "shortened", "ok")
        metrics = (await ask(client, "GET", "/metrics")).body.decode()
    assert 'seatrial_audit_rows{table="events"} 1000.0' in metrics
    assert 'seatrial_audit_rows_removed_total{why="shortened"} 200.0' in metrics
