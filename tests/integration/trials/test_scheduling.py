"""Whose part is next: pushes first, equal shares, small ones beside large ones; and what that asks of the
database."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update

from registry.db.content import repositories
from registry.db.engine import Database
from registry.db.trials import parts, trials
from registry.settings import Settings
from registry.trials.scheduling import LARGE_BYTES, LARGE_SHARES, SCHEDULED
from tests.kit.plans import plan_of, sent
from tests.kit.queueing import PLATFORM, Shift, hire, queue_images, unfairness

OTHER = "linux/arm64"


@pytest.fixture
async def shift(tmp_path: Path, database_url: str) -> AsyncIterator[Shift]:
    """A database without a server, and nobody at work yet."""
    database = Database(database_url)
    settings = Settings(data=tmp_path, trial_platforms=(PLATFORM, OTHER))
    yield Shift(database, settings)
    await database.close()


async def test_each_part_is_run_once_and_no_repository_waits_long(shift: Shift) -> None:
    queued = {"big/one": 60, **{f"small/{number}": 6 for number in range(5)}}
    for name, count in queued.items():
        await queue_images(shift.database, shift.settings, name, count)
    await shift.run(await hire(shift.database, [f"w{number}" for number in range(10)]))
    assert Counter(shift.order) == queued
    assert set(shift.claims.values()) == {1}
    async with shift.database.read() as connection:
        done = await connection.execute(select(trials.c.state, trials.c.verdict).distinct())
        assert done.all() == [("done", "pass")]
    assert unfairness(shift.order, queued, at_once=10) <= 2


async def test_a_newcomer_waits_for_one_turn_of_the_others(shift: Shift) -> None:
    await queue_images(shift.database, shift.settings, "big/one", 20)
    (worker,) = await hire(shift.database, ["one"])
    for _ in range(5):
        await shift.report(worker, await shift.claim(worker) or pytest.fail("nothing was queued"))
    await queue_images(shift.database, shift.settings, "late/one", 3)
    shift.order.clear()
    for _ in range(7):
        await shift.report(worker, await shift.claim(worker) or pytest.fail("nothing was queued"))
    assert shift.order[:6].count("late/one") == 3


async def test_quick_workers_of_some_move_nobody_back(shift: Shift) -> None:
    """Neither those of one platform, nor those of one namespace: a newcomer has the turn of the first that
    waits."""
    settings = shift.settings
    await queue_images(shift.database, settings, "big/one", 20)
    await queue_images(shift.database, settings, "big/one", 20, platform=OTHER)
    await queue_images(shift.database, settings, "other/one", 20)
    (worker,) = await hire(shift.database, ["one"])
    (bound,) = await hire(shift.database, ["bound"], namespace="big")
    for _ in range(20):
        await shift.report(bound, await shift.claim(bound, platform=OTHER) or pytest.fail("none was queued"))
    for _ in range(15):
        await shift.report(bound, await shift.claim(bound) or pytest.fail("nothing was queued"))
    await queue_images(shift.database, settings, "late/one", 2, platform=OTHER)
    await queue_images(shift.database, settings, "late/one", 2)
    shift.order.clear()
    for _ in range(4):
        await shift.report(worker, await shift.claim(worker) or pytest.fail("nothing was queued"))
    assert shift.order.count("late/one") == 2


async def test_what_no_worker_takes_lets_nobody_pass_the_others(shift: Shift) -> None:
    """One that pushes all the time has turns after what runs, and not the one of what is never claimed."""
    await queue_images(shift.database, shift.settings, "stuck/one", 1)
    async with shift.database.write() as connection:
        await connection.execute(update(repositories).values(worker_label="nobody-has-it"))
    await queue_images(shift.database, shift.settings, "big/one", 20)
    workers = await hire(shift.database, ["one", "two"])
    jobs = [await shift.claim(worker) for worker in workers]
    for _ in range(10):
        await queue_images(shift.database, shift.settings, "steady/one", 1)
        for number, worker in enumerate(workers):
            await shift.report(worker, jobs[number] or pytest.fail("nothing was queued"))
            jobs[number] = await shift.claim(worker)
    assert shift.order.count("big/one") >= 10
    assert shift.order.count("steady/one") >= 8


async def test_what_is_pushed_goes_before_what_is_scheduled(shift: Shift) -> None:
    await queue_images(shift.database, shift.settings, "nightly/one", 3, urgency=SCHEDULED)
    await queue_images(shift.database, shift.settings, "pushed/one", 2)
    (worker,) = await hire(shift.database, ["one"])
    await shift.work(worker)
    assert shift.order == ["pushed/one"] * 2 + ["nightly/one"] * 3


async def test_a_large_image_lets_as_many_small_ones_pass_as_it_costs(shift: Shift) -> None:
    await queue_images(shift.database, shift.settings, "large/one", 1, size_bytes=LARGE_BYTES + 1)
    await queue_images(shift.database, shift.settings, "small/one", LARGE_SHARES + 5)
    (worker,) = await hire(shift.database, ["one"])
    await shift.work(worker)
    assert LARGE_SHARES - 1 <= shift.order.index("large/one") <= LARGE_SHARES


async def test_large_images_have_half_of_a_workers_slots(shift: Shift) -> None:
    await queue_images(shift.database, shift.settings, "large/one", 4, size_bytes=LARGE_BYTES + 1)
    (worker,) = await hire(shift.database, ["one"])
    jobs = [await shift.claim(worker, slots=4) for _ in range(4)]
    assert [job is not None for job in jobs] == [True, True, False, False]
    await queue_images(shift.database, shift.settings, "small/one", 1)
    assert await shift.claim(worker, slots=4) is not None
    assert jobs[0] is not None
    await shift.report(worker, jobs[0])
    assert await shift.claim(worker, slots=4) is not None
    assert shift.order == ["large/one", "large/one", "small/one", "large/one"]


async def test_a_claim_reads_ranges_of_indexes(shift: Shift) -> None:
    """Whatever the queue is long and whatever was done before: no scan of all parts, nor of what all images
    are made of, and no sort; and few of them."""
    await queue_images(shift.database, shift.settings, "big/one", 1)
    columns = "repository_id, platform, spec_digest, policy_version, image_spec_allowed, reason"
    columns += ", run_after, created_at, attempts"
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
    async with shift.database.write() as connection:
        for state in ("queued", "done"):
            await connection.execute(
                text(
                    f"INSERT INTO parts (id, digest, state, turn, {columns}) {numbers}"
                    f" SELECT '{state}' || n.i, '{state}' || n.i, '{state}', n.i + 100, {columns}"
                    " FROM n, parts p WHERE p.digest LIKE 'sha256:_%'"
                )
            )
        await connection.execute(
            text(
                f"INSERT INTO edges (manifest_id, position, kind, digest, media_type, size) {numbers}"
                " SELECT e.manifest_id, n.i, e.kind, e.digest, e.media_type, e.size FROM n, edges e"
            )
        )
        await connection.execute(text("ANALYZE"))
    await queue_images(shift.database, shift.settings, "big/two", 1)
    (worker,) = await hire(shift.database, ["one"])
    assert await shift.claim(worker, slots=2) is not None
    with sent() as statements:
        assert await shift.claim(worker, slots=2) is not None
        assert len([one for one in statements if not one.text.startswith("BEGIN")]) <= 5
        await queue_images(shift.database, shift.settings, "other/one", 1)
    # The look before the claim, the claim, and where in the queue a new part comes.
    looked = [one for one in statements if "parts.turn" in one.text and "'queued'" in one.text]
    assert len(looked) == 3
    for statement in looked:
        plan = await plan_of(shift.database, statement)
        assert "ix_parts_queue" in plan or "ix_parts_begun" in plan, (statement.text, plan)
        assert "SCAN parts\n" not in plan, (statement.text, plan)
        assert "Seq Scan on parts" not in plan, (statement.text, plan)
        assert "Seq Scan on edges" not in plan, (statement.text, plan)
        assert "SCAN listed\n" not in plan, (statement.text, plan)
        assert "Sort" not in plan, (statement.text, plan)
        assert "TEMP B-TREE" not in plan, (statement.text, plan)
    async with shift.database.read() as connection:
        left = select(func.count()).where(parts.c.state == "queued")
        assert (await connection.execute(left)).scalar_one() == 3001
