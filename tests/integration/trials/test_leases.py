"""The queue: one run for each part, leases that end, attempts that are counted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from registry.db.trials import parts
from registry.db.types import db_time
from tests.kit.access import ask
from tests.kit.images import file, make_image, make_layer
from tests.kit.trials import REPOSITORY, Port, make_error, open_port, tiny_image


@pytest.fixture
async def short(tmp_path: Path, database_url: str) -> AsyncIterator[Port]:
    """A registry whose leases end after two seconds."""
    async with open_port(tmp_path / "data", database_url, lease_seconds=2, trial_attempts=2) as opened:
        yield opened


async def test_two_workers_and_one_trial_make_one_run(port: Port) -> None:
    digest = await port.push(tiny_image())
    workers = [await port.worker(name) for name in ("one", "two")]
    jobs = await asyncio.gather(*(worker.claim() for worker in workers for _ in range(4)))
    assert [job["digest"] for job in jobs if job] == [digest]


async def test_many_workers_share_many_parts_without_doubles(port: Port) -> None:
    digests = {await port.push(tiny_image(), tag=f"{number}") for number in range(12)}
    workers = [await port.worker(f"w{number}") for number in range(3)]

    async def work(worker: object) -> list[str]:
        done = []
        while (job := await worker.claim()) is not None:  # type: ignore[attr-defined]
            assert (await worker.report(job)).status == 204  # type: ignore[attr-defined]
            done.append(job["digest"])
        return done

    done = [digest for part in await asyncio.gather(*map(work, workers)) for digest in part]
    assert sorted(done) == sorted(digests)


async def test_the_longest_waiting_part_goes_first(port: Port) -> None:
    digests = [await port.push(tiny_image(), tag=f"{number}") for number in range(3)]
    worker = await port.worker("one")
    assert [(await worker.claim())["digest"] for _ in digests] == digests


async def test_a_worker_with_little_disk_gets_small_images(port: Port) -> None:
    layer = make_layer(file("weights", random.Random(1).randbytes(30_000)))
    large = await port.push(make_image(layer, config={"Cmd": ["x"]}))
    small = await port.push(tiny_image(), tag="small")
    worker = await port.worker("one")
    needed = 4 * len(layer.blob)
    assert await worker.claim(disk_bytes=0) is None
    assert (await worker.claim(disk_bytes=needed - 1))["digest"] == small
    assert await worker.claim(disk_bytes=needed - 1) is None
    assert (await worker.claim(disk_bytes=needed))["digest"] == large


async def test_a_claim_waits_for_a_push(port: Port) -> None:
    worker = await port.worker("one")
    waiting = asyncio.create_task(worker.claim(wait_seconds=30))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    digest = await port.push(tiny_image())
    assert (await waiting)["digest"] == digest


async def test_a_claim_ends_empty_when_its_wait_is_over(port: Port) -> None:
    assert await (await port.worker("one")).claim(wait_seconds=0.3) is None


async def test_a_worker_gets_only_what_it_can_run(tmp_path: Path, database_url: str) -> None:
    platforms = ("linux/amd64", "linux/arm64")
    async with open_port(tmp_path / "data", database_url, trial_platforms=platforms) as port:
        digest = await port.push(tiny_image("linux/arm64"))
        worker = await port.worker("one")
        assert await worker.claim(platforms=("linux/amd64",)) is None
        assert (await worker.claim(platforms=("linux/amd64", "linux/arm64")))["digest"] == digest


async def test_a_lease_that_is_renewed_lives_on(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, lease_seconds=600) as port:
        await port.push(tiny_image())
        worker, other = await port.worker("one"), await port.worker("two")
        job = await worker.claim()
        async with port.database.write() as connection:
            soon = update(parts).values(lease_expires_at=db_time(timedelta(seconds=60)))
            await connection.execute(soon)
        answer = await worker.renew(job)
        assert (answer.status, answer.json["lease_seconds"]) == (200, 600)
        async with port.database.read() as connection:
            lives_on = select(parts.c.lease_expires_at > db_time(timedelta(seconds=300)))
            assert (await connection.execute(lives_on)).scalar_one()
        assert await other.claim() is None
        assert (await worker.report(job)).status == 204


async def test_a_silent_worker_loses_its_job_and_the_last_attempt_is_an_error(short: Port) -> None:
    digest = await short.push(tiny_image())
    lost, other = await short.worker("lost"), await short.worker("other")
    first = await lost.claim()
    # Back-off and slow looks included.
    second = await other.claim(wait_seconds=30)
    assert (second["digest"], second["attempt"]) == (digest, 2)
    assert second["lease"] != first["lease"]
    assert (await lost.renew(first)).status == 409
    assert (await lost.report(first)).status == 409
    # Nobody claims now: the periodic task has to notice.
    answer = await ask(
        short.admin,
        "GET",
        "/api/v1/trials",
        params={"image": REPOSITORY, "digest": digest, "wait": "30"},
    )
    (trial,) = answer.json
    assert trial["verdict"] == "error"
    assert trial["reason"] == "worker-lost: the worker was lost in each of 2 attempts, the last one other"
    assert await short.state(digest) == "error"
    assert await other.claim() is None


async def test_a_retryable_error_is_tried_again_and_then_stands(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, trial_attempts=2) as port:
        digest = await port.push(tiny_image())
        worker = await port.worker("one")
        problem = make_error("pull-failed", retryable=True)
        assert (await worker.report(await worker.claim(), **problem)).status == 204
        assert await port.state(digest) == "pending"
        again = await worker.claim(wait_seconds=30)
        assert again["attempt"] == 2
        assert (await worker.report(again, **problem)).status == 204
        (trial,) = await port.trials(digest)
        assert (trial["verdict"], trial["reason"]) == ("error", "pull-failed: it was pull-failed")


async def test_an_error_that_would_come_again_stands_at_once(port: Port) -> None:
    digest = await port.push(tiny_image())
    worker = await port.worker("one")
    await worker.report(await worker.claim(), **make_error("layer-invalid"))
    assert await port.state(digest) == "error"
    assert await worker.claim(wait_seconds=0.1) is None


async def test_a_draining_worker_is_told_and_gets_nothing(port: Port) -> None:
    await port.push(tiny_image())
    worker = await port.worker("one")
    waiting = asyncio.create_task(
        worker.post("claim", {"protocol": 1, "platforms": ["linux/s390x"], "wait_seconds": 30})
    )
    await asyncio.sleep(0.2)
    assert (await ask(port.admin, "PUT", "/api/v1/workers/one/drain")).status == 204
    assert (await waiting).json == {"protocol": 1, "job": None, "drain": True}
    assert await worker.claim() is None
    assert (await ask(port.admin, "DELETE", "/api/v1/workers/one/drain")).status == 204
    assert await worker.claim() is not None


async def test_a_draining_worker_still_finishes_what_it_has(port: Port) -> None:
    digest = await port.push(tiny_image())
    worker = await port.worker("one")
    job = await worker.claim()
    await ask(port.admin, "PUT", "/api/v1/workers/one/drain")
    assert (await worker.renew(job)).status == 200
    assert (await worker.report(job)).status == 204
    assert await port.state(digest) == "pass"


async def test_a_revoked_worker_opens_nothing(port: Port) -> None:
    await port.push(tiny_image())
    worker = await port.worker("one")
    job = await worker.claim()
    await ask(port.admin, "POST", "/api/v1/workers/one/revoke")
    assert (await worker.renew(job)).status == 401
    assert (await worker.report(job)).status == 401
    assert (await port.pull(job["digest"], client=await port.puller(job))).status == 401


async def test_a_worker_that_hung_up_gets_no_lease(port: Port) -> None:
    worker = await port.worker("one")
    waiting = asyncio.create_task(worker.claim(wait_seconds=30))
    await asyncio.sleep(0.2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await port.push(tiny_image())
    await asyncio.sleep(0.2)
    assert (await worker.claim())["attempt"] == 1


async def test_workers_are_listed_with_what_they_said(port: Port) -> None:
    worker = await port.worker("one")
    await worker.claim(platforms=("linux/amd64", "linux/arm64"))
    (shown,) = (await ask(port.admin, "GET", "/api/v1/workers")).json["items"]
    assert shown["platforms"] == ["linux/amd64", "linux/arm64"]
    assert shown["last_seen_at"] is not None
