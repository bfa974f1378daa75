"""Mounts and the gate: what may not be read is not mounted, at once and without a trace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import func, select

from registry.content import blobs
from registry.db.events import events
from registry.oci.digest import parse_digest
from registry.trials.mounting import SOURCES_MAX
from tests.kit.access import ask
from tests.kit.distribution import push_blob
from tests.kit.images import digest_of
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image


@pytest.fixture
async def port(tmp_path: Path, database_url: str) -> AsyncIterator[Port]:
    """A registry whose gate waits for a verdict as long as it may."""
    async with open_port(tmp_path / "data", database_url, gate_wait_seconds=60) as opened:
        yield opened


@pytest.fixture
async def other(port: Port) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody who may pull from some repositories and push to another."""
    body = {"name": "m", "scopes": ["repository:team/*:pull", "repository:mine/copy:pull,push"]}
    token = (await ask(port.admin, "POST", "/api/v1/tokens", json=body)).json["token"]
    async with port.registry.client(token) as client:
        yield client


async def mount(client: aiohttp.ClientSession, digest: str, **query: str) -> int:
    """Try to mount a blob; the status."""
    path = "/v2/mine/copy/blobs/uploads/"
    return (await ask(client, "POST", path, params={"mount": digest, **query})).status


async def refusals(port: Port) -> int:
    """How many reads were refused."""
    assert port.registry.services is not None
    await port.registry.services.refusals.flush(port.database, everything=True)
    async with port.database.read() as connection:
        query = select(func.count()).where(events.c.kind == "pull.refused")
        return (await connection.execute(query)).scalar_one()


async def test_a_verdict_on_its_way_is_not_waited_for(port: Port, other: aiohttp.ClientSession) -> None:
    image = tiny_image()
    layer = image.layers[0].digest
    for number in range(3):
        await port.push(image, repository=f"team/app{number}")
    assert await mount(other, layer) == 202
    assert await mount(other, layer, **{"from": "team/app0"}) == 202
    assert await refusals(port) == 0
    worker = await port.worker("one")
    await worker.report(await worker.claim())
    assert await mount(other, layer) == 201


async def test_some_source_is_found_among_those_that_are_refused(
    port: Port, other: aiohttp.ClientSession
) -> None:
    image = tiny_image()
    await push_blob(port.admin, "hidden/app", image.layers[0].blob)
    await push_blob(port.admin, "team/loose", image.layers[0].blob)
    assert await mount(other, image.layers[0].digest) == 202
    await port.push(image, repository=REPOSITORY)
    worker = await port.worker("one")
    await worker.report(await worker.claim())
    assert await mount(other, image.layers[0].digest) == 201


async def test_the_search_is_bounded(port: Port, other: aiohttp.ClientSession) -> None:
    content = b"everywhere"
    for number in range(60):
        path = f"/v2/many/app{number}/blobs/uploads/"
        if number == 0:
            await push_blob(port.admin, "many/app0", content)
            continue
        query = {"mount": digest_of(content), "from": "many/app0"}
        assert (await ask(port.admin, "POST", path, params=query)).status == 201
    digest = parse_digest(digest_of(content))
    found = await blobs.find_elsewhere(port.database, digest)
    assert SOURCES_MAX < len(found) < 60
    assert await mount(other, digest_of(content)) == 202
    assert await mount(port.admin, digest_of(content)) == 201
