"""Requests that meet: at one registry on SQLite, at two replicas on PostgreSQL. Whatever the order was, what
stands afterwards is whole, and nobody is answered with a failure of the registry."""

from __future__ import annotations

import asyncio
import io
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import make_url

from tests.kit.access import Answer, ask
from tests.kit.distribution import (
    EMPTY_CONFIG,
    push_blob,
    put_manifest,
    small_index,
    small_manifest,
    start_upload,
)
from tests.kit.images import OCI_INDEX, digest_of
from tests.kit.rawhttp import request
from tests.kit.server import Registry, running_replicas

MIB = 1 << 20
CONTENT = os.urandom(200_000)
DIGEST = digest_of(CONTENT)


@pytest.fixture
async def registries(tmp_path: Path, database_url: str) -> AsyncIterator[list[Registry]]:
    """One on SQLite, two on PostgreSQL."""
    count = 1 if make_url(database_url).get_backend_name() == "sqlite" else 2
    async with running_replicas(tmp_path, database_url, count) as running:
        yield running


@pytest.fixture
async def clients(registries: list[Registry]) -> AsyncIterator[list[aiohttp.ClientSession]]:
    """The administrator at each, in turn, eight times."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(one.client()) for one in registries]
        yield [made[number % len(made)] for number in range(8)]


async def statuses(asked: Sequence[Awaitable[Answer]]) -> Counter[int]:
    return Counter([answer.status for answer in await asyncio.gather(*asked)])


def put(client: aiohttp.ClientSession, location: str) -> Awaitable[Answer]:
    return ask(client, "PUT", location, params={"digest": DIGEST})


async def filled(client: aiohttp.ClientSession, name: str) -> str:
    location = await start_upload(client, name)
    assert (await ask(client, "PATCH", location, data=io.BytesIO(CONTENT))).status == 202
    return location


async def stored(client: aiohttp.ClientSession, name: str) -> bool:
    answer = await ask(client, "GET", f"/v2/{name}/blobs/{DIGEST}")
    assert answer.status in (200, 404)
    assert answer.status == 404 or answer.body == CONTENT
    return answer.status == 200


def files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


async def test_one_session_is_finished_eight_times(
    clients: list[aiohttp.ClientSession], tmp_path: Path
) -> None:
    location = await filled(clients[0], "a")
    counts = await statuses([put(client, location) for client in clients])
    assert counts[201] == 1, counts
    assert set(counts) <= {201, 404, 409}, counts
    assert await stored(clients[-1], "a")
    assert len(files(tmp_path)) == 1


async def test_one_chunk_comes_eight_times(clients: list[aiohttp.ClientSession]) -> None:
    location = await start_upload(clients[0], "a")
    headers = {"Content-Range": f"0-{len(CONTENT) - 1}"}
    counts = await statuses(
        [ask(client, "PATCH", location, data=io.BytesIO(CONTENT), headers=headers) for client in clients]
    )
    assert counts[202] == 1, counts
    assert set(counts) <= {202, 416, 409}, counts
    assert (await ask(clients[-1], "GET", location)).headers["Range"] == f"0-{len(CONTENT) - 1}"
    assert (await put(clients[-1], location)).status == 201


async def test_sixteen_images_for_one_tag(clients: list[aiohttp.ClientSession]) -> None:
    await push_blob(clients[0], "a", EMPTY_CONFIG)
    bodies = [small_manifest(annotations={"n": str(number)}) for number in range(16)]
    answers = await asyncio.gather(
        *(put_manifest(clients[i % 8], "a", "v1", raw) for i, raw in enumerate(bodies))
    )
    assert {answer.status for answer in answers} == {201}
    seen = {(await ask(client, "GET", "/v2/a/manifests/v1")).body for client in clients}
    assert len(seen) == 1
    assert seen <= set(bodies)
    for raw in bodies:  # who lost the tag is still there by digest
        assert (await ask(clients[0], "GET", f"/v2/a/manifests/{digest_of(raw)}")).body == raw


async def test_finishing_meets_cancelling(clients: list[aiohttp.ClientSession], tmp_path: Path) -> None:
    for number in range(6):
        name = f"a{number}"
        location = await filled(clients[0], name)
        finished, cancelled = await asyncio.gather(
            put(clients[1], location), ask(clients[0], "DELETE", location)
        )
        assert (finished.status == 201) != (cancelled.status == 204), (finished.status, cancelled.status)
        assert {finished.status, cancelled.status} <= {201, 204, 404, 409}
        assert await stored(clients[0], name) == (finished.status == 201)
    assert len(files(tmp_path)) <= 1, "nothing is left of those that were cancelled"


async def test_one_blob_comes_by_eight_sessions(clients: list[aiohttp.ClientSession], tmp_path: Path) -> None:
    locations = [await filled(client, f"a{number % 2}") for number, client in enumerate(clients)]
    counts = await statuses([put(client, where) for client, where in zip(clients, locations, strict=True)])
    assert counts == {201: 8}
    assert await stored(clients[0], "a0")
    assert await stored(clients[1], "a1")
    assert len(files(tmp_path)) == 1


async def test_a_tag_is_put_while_its_digest_is_deleted(clients: list[aiohttp.ClientSession]) -> None:
    await push_blob(clients[0], "a", EMPTY_CONFIG)
    raw = small_manifest()
    path = f"/v2/a/manifests/{digest_of(raw)}"
    for number in range(6):
        tag = f"v{number}"
        assert (await put_manifest(clients[0], "a", "first", raw)).status == 201
        told, deleted = await asyncio.gather(
            put_manifest(clients[0], "a", tag, raw), ask(clients[1], "DELETE", path)
        )
        assert (told.status, deleted.status) == (201, 202)
        listed = b'"%s"' % tag.encode() in (await ask(clients[1], "GET", "/v2/a/tags/list")).body
        found = (await ask(clients[1], "GET", f"/v2/a/manifests/{tag}")).status
        assert found == (200 if listed else 404)
        assert (await ask(clients[0], "GET", path)).status == found


async def test_a_child_of_an_index_that_is_tagged_is_deleted(clients: list[aiohttp.ClientSession]) -> None:
    await push_blob(clients[0], "a", EMPTY_CONFIG)
    child = small_manifest()
    index = small_index(child)
    assert (await put_manifest(clients[0], "a", digest_of(child), child)).status == 201
    assert (await put_manifest(clients[0], "a", "v1", index, OCI_INDEX)).status == 201
    assert (await ask(clients[0], "DELETE", f"/v2/a/manifests/{digest_of(child)}")).status == 202
    assert (await ask(clients[1], "GET", f"/v2/a/manifests/{digest_of(child)}")).status == 404
    assert (await ask(clients[1], "GET", "/v2/a/manifests/v1")).body == index


async def test_what_follows_a_failed_finish(clients: list[aiohttp.ClientSession]) -> None:
    location = await filled(clients[0], "a")
    wrong = {"digest": digest_of(b"other bytes")}
    assert (await ask(clients[0], "PUT", location, params=wrong)).status == 400
    for method in ("PATCH", "PUT", "GET", "DELETE"):
        answer = await ask(clients[1], method, location, params={"digest": DIGEST})
        assert answer.status == 404, (method, answer)


async def test_a_client_goes_away_after_the_last_byte(
    clients: list[aiohttp.ClientSession], registries: list[Registry], tmp_path: Path
) -> None:
    """It never heard what became of it: it asks again, and both answers are true."""
    for number in range(6):
        name = f"a{number}"
        location = await start_upload(clients[0], name)
        host, _, port = registries[0].host.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        target = f"{location}?digest={DIGEST}"
        writer.write(request("PUT", target, token=registries[0].token, body=CONTENT))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        again = await ask(clients[1], "PUT", location, params={"digest": DIGEST})
        while again.status == 409:  # the first is at it
            again = await ask(clients[1], "PUT", location, params={"digest": DIGEST})
        assert again.status in (201, 404, 400), again
        # What an empty upload would be, or what is there: no third thing.
        if not await stored(clients[1], name):
            assert again.status == 400
            await push_blob(clients[1], name, CONTENT)
        assert await stored(clients[0], name)
    assert len(files(tmp_path)) == 1
