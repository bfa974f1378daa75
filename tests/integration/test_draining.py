"""SIGTERM or a closed terminal: what runs is finished, nothing new is promised, and the end comes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from tests.kit.distribution import push_blob, start_upload
from tests.kit.images import digest_of
from tests.kit.server import RegistryProcess

NAME = "team/app"
MIB = 1 << 20
END_SECONDS = 120


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegistryProcess]:
    made = RegistryProcess(tmp_path / "data", shutdown_seconds=str(getattr(request, "param", 600)))
    yield made
    made.kill()


def until_closed(server: RegistryProcess) -> asyncio.Future[int]:
    """The exit code, once it has ended."""
    return asyncio.ensure_future(asyncio.to_thread(server.wait, END_SECONDS))


async def refuses(url: str) -> bool:
    """Whether a load balancer, which comes on a connection of its own, is told to go elsewhere."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as response:
        await response.read()
        return response.status == 503


async def until(check: Callable[[], Awaitable[object]]) -> None:
    """Ask until the answer is yes."""
    while True:
        if await check():
            return
        await asyncio.sleep(0.02)


async def test_a_slow_push_and_a_slow_pull_finish(server: RegistryProcess) -> None:
    registry = server.start()
    go_on = asyncio.Event()
    rest = os.urandom(4 * MIB)

    async def slowly() -> AsyncIterator[bytes]:
        yield rest[: 3 * MIB]
        await go_on.wait()
        yield rest[3 * MIB :]

    async with registry.client() as client, registry.client() as idle:
        content = os.urandom(24 * MIB)
        digest = await push_blob(client, NAME, content)
        location = await start_upload(client, NAME)
        async with idle.get("/v2/") as response:
            assert response.status == 200
        async with client.get(f"/v2/{NAME}/blobs/{digest}") as pull:
            first = await pull.content.readexactly(1000)
            push = asyncio.create_task(patch(client, location, slowly()))
            await until(lambda: offset(idle, location))
            server.terminate()
            await until(lambda: refuses(registry.url))
            ended = until_closed(server)
            # The system and the shell each tell of a terminal that is closed: that is no second signal.
            os.kill(server.pid, signal.SIGHUP)
            assert not ended.done()
            go_on.set()
            assert await push == 202
            hashed = hashlib.sha256(first + await pull.read())
        assert f"sha256:{hashed.hexdigest()}" == digest
        # The connection that is idle holds nothing up, and nobody listens any more.
        assert await ended == 0
        with pytest.raises(aiohttp.ClientConnectorError):
            await refuses(registry.url)
    # What was acknowledged is there.
    registry = server.start()
    async with (
        registry.client() as client,
        client.put(location, params={"digest": digest_of(rest)}) as response,
    ):
        assert response.status == 201, await response.text()


@pytest.mark.parametrize("server", [1], indirect=True)
async def test_what_takes_too_long_is_broken_off_and_can_go_on(server: RegistryProcess) -> None:
    registry = server.start()
    content = os.urandom(4 * MIB)

    async def stalls() -> AsyncIterator[bytes]:
        yield content[: 3 * MIB]
        await asyncio.Event().wait()

    async with registry.client() as client, registry.client() as asking:
        location = await start_upload(client, NAME)
        push = asyncio.create_task(patch(client, location, stalls()))
        await until(lambda: offset(asking, location))
        hang_up(server)
        assert await until_closed(server) == 0
        with suppress(aiohttp.ClientError):  # a refusal, or the end of the connection
            assert await push >= 400
    registry = server.start()
    async with registry.client() as client:
        held = await offset(client, location)
        assert 0 < held <= 3 * MIB
        assert await patch(client, location, once(content[held:])) == 202
        async with client.put(location, params={"digest": digest_of(content)}) as response:
            assert response.status == 201, await response.text()


def hang_up(server: RegistryProcess) -> None:
    """Do what a terminal does that is closed; SIGTERM where nohup, by which the tests may run, has that
    ignored."""
    ignored = re.findall(r"SigIgn:\s*(\w+)", Path(f"/proc/{server.pid}/status").read_text())[0]
    is_heard = not int(ignored, 16) >> (signal.SIGHUP - 1) & 1
    os.kill(server.pid, signal.SIGHUP if is_heard else signal.SIGTERM)


async def patch(client: aiohttp.ClientSession, location: str, body: AsyncIterator[bytes]) -> int:
    async with client.patch(location, data=body) as response:
        return response.status


async def once(block: bytes) -> AsyncIterator[bytes]:
    yield block


async def offset(client: aiohttp.ClientSession, location: str) -> int:
    """How many bytes of an upload the registry holds."""
    async with client.get(location) as response:
        assert response.status == 204, await response.text()
        last = int(response.headers["Range"].rpartition("-")[2])
        return last + 1 if last else 0  # nothing is written as 0-0
