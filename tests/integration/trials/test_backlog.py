"""How the queue stands, as an operator's alerts see it."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import text, update

from registry.db.trials import parts
from registry.db.types import db_time
from registry.trials.backlog import Backlog, read_backlog
from tests.kit.access import ask
from tests.kit.trials import Port, make_error, tiny_image


async def test_parts_and_workers_by_state(port: Port) -> None:
    nobody = {"alive": 0, "drained": 0, "silent": 0}
    assert await read_backlog(port.database) == Backlog({"queued": 0, "leased": 0}, 0.0, nobody, 0)
    for tag in ("1", "2"):
        await port.push(tiny_image(), tag=tag)
    async with port.database.write() as connection:
        await connection.execute(update(parts).values(created_at=db_time(timedelta(seconds=-3600))))
    worker, other, _ = [await port.worker(name) for name in ("one", "other", "idle")]
    job = await worker.claim()
    now = await read_backlog(port.database)
    assert now.parts == {"queued": 1, "leased": 1}
    assert 3600 <= now.oldest_seconds < 3700
    assert now.workers == {"alive": 1, "drained": 0, "silent": 2}
    await other.claim()
    assert (await ask(port.admin, "PUT", "/api/v1/workers/other/drain")).status == 204
    assert (await ask(port.admin, "POST", "/api/v1/workers/idle/revoke")).status == 204
    assert (await read_backlog(port.database)).workers == {"alive": 1, "drained": 1, "silent": 0}
    async with port.database.write() as connection:
        await connection.execute(text("UPDATE workers SET last_seen_at = last_seen_at - 121000000"))
    assert (await read_backlog(port.database)).workers == {"alive": 0, "drained": 1, "silent": 1}
    assert (await worker.report(job, **make_error("worker-disk", retryable=True))).status == 204
    assert (await read_backlog(port.database)).parts == {"queued": 1, "leased": 1}
    answer = await ask(port.admin, "GET", "/metrics")
    assert b'seatrial_trial_verdicts_total{reason="worker-disk",verdict="retried"} 1.0' in answer.body
    assert b'seatrial_trial_parts{state="queued"}' in answer.body
    assert b"seatrial_trial_oldest_pending_seconds" in answer.body
    assert b"seatrial_trial_parts_without_room 0.0" in answer.body
