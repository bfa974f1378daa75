"""Several replicas on one PostgreSQL, and many things at once: what SQLite's single writer would hide."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from tests.kit.distribution import push_image
from tests.kit.images import make_index
from tests.kit.server import running_registry
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, open_port, tiny_image, worker_token


async def work(worker: ScriptedWorker, until: asyncio.Event) -> list[str]:
    """Take jobs and report on them until told to end and none is left."""
    done = []
    while True:
        ending = until.is_set()
        job = await worker.claim(wait_seconds=0.2)
        if job is None and ending:
            return done
        if job is not None:
            assert (await worker.report(job)).status == 204
            done.append(job["part"])


async def test_indexes_that_share_children_are_pushed_while_workers_report(
    tmp_path: Path, make_postgres_url: Callable[[], str]
) -> None:
    async with open_port(tmp_path / "data", make_postgres_url()) as port:
        images = [tiny_image() for _ in range(6)]
        workers = [await port.worker(f"w{number}") for number in range(4)]
        until = asyncio.Event()
        working = [asyncio.create_task(work(worker, until)) for worker in workers]

        async def push(number: int) -> str:
            index = make_index(*(images[(number + step) % 6] for step in range(3)))
            return await port.push(index, tag=f"index{number}")

        digests = await asyncio.gather(*(push(number) for number in range(6)))
        until.set()
        parts = [part for done in await asyncio.gather(*working) for part in done]
        # Each image once, however many indexes name it.
        assert len(parts) == len(set(parts)) == 6
        for digest in (*digests, *(image.digest for image in images)):
            assert await port.state(digest) == "pass"
            assert {trial["state"] for trial in await port.trials(digest)} == {"done"}


async def test_two_replicas_hand_out_each_part_once(
    tmp_path: Path, make_postgres_url: Callable[[], str]
) -> None:
    url = make_postgres_url()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(open_port(tmp_path / "data", url))
        other = await stack.enter_async_context(replica(port, tmp_path, url))
        here = await port.worker("here")
        there = await at(stack, other.url, await worker_token(port.admin, "there"))
        waiting = asyncio.create_task(there.claim(wait_seconds=30))
        await asyncio.sleep(0.2)
        # The other replica hears nothing of this push; it looks.
        digest = await port.push(tiny_image(), tag="first")
        job = await waiting
        assert job["digest"] == digest
        # What one replica leased, the other takes the report of.
        moved = await at(stack, port.registry.url, there_token(there))
        assert (await moved.report(job)).status == 204
        assert (await there.report(job)).status == 409
        for number in range(10):
            await port.push(tiny_image(), tag=f"{number}")
        jobs = await asyncio.gather(*(worker.claim() for worker in (here, there) for _ in range(8)))
        digests = [job["digest"] for job in jobs if job]
        assert len(digests) == len(set(digests)) == 10


async def test_a_pull_waits_at_one_replica_for_a_report_at_the_other(
    tmp_path: Path, make_postgres_url: Callable[[], str]
) -> None:
    url = make_postgres_url()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(open_port(tmp_path / "data", url, gate_wait_seconds=30))
        other = await stack.enter_async_context(replica(port, tmp_path, url))
        digest = await port.push(tiny_image())
        there = await at(stack, other.url, await worker_token(port.admin, "there"))
        waiting = asyncio.create_task(port.pull(digest))
        await there.report(await there.claim())
        assert (await waiting).status == 200


async def test_pushes_of_one_image_at_once_make_one_trial(
    tmp_path: Path, make_postgres_url: Callable[[], str]
) -> None:
    async with open_port(tmp_path / "data", make_postgres_url()) as port:
        image = tiny_image()
        await asyncio.gather(*(push_image(port.admin, REPOSITORY, f"{number}", image) for number in range(5)))
        assert len(await port.trials(image.digest)) == 1


def replica(port: Port, folder: Path, url: str) -> Any:
    """Another registry on the same database and blobs, with a data folder of its own."""
    assert port.registry.services is not None
    settings = port.registry.services.settings
    return running_registry(
        folder / "other",
        url,
        trial_on_push=True,
        trial_platforms=("linux/amd64",),
        storage_url=settings.effective_storage_url,
        secret_key_file=settings.data / "secret.key",
        admin_token_file=settings.data / "admin.token",
    )


async def at(stack: AsyncExitStack, url: str, token: str) -> ScriptedWorker:
    """A worker that speaks to one replica."""
    client = aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {token}"})
    return ScriptedWorker(await stack.enter_async_context(client), "there")


def there_token(worker: ScriptedWorker) -> str:
    return worker.client.headers["Authorization"].removeprefix("Bearer ")
