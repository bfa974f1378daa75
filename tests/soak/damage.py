"""A blob whose bytes are others in the store: a scrub must find it, and a push of the same bytes heal it,
though the server is killed in both."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable

import aiohttp
from sqlalchemy import select

from registry.db.content import blobs
from registry.db.engine import Database
from tests.kit.access import api
from tests.kit.distribution import push_blob
from tests.kit.forking import ForkedServer
from tests.kit.images import digest_of
from tests.soak.checks import Store

NAME = "damaged/app"
_KILLED_AFTER_SECONDS = 0.15
_END_SECONDS = 60
_SIZE = 200_000


async def damage_and_heal(
    process: ForkedServer, database: Database, store: Store, chance: random.Random, violations: list[str]
) -> int:
    """Damage one blob, and tell what is wrong of how that is found and healed; how often it killed."""
    if violations:
        return 0
    content = chance.randbytes(_SIZE)
    digest = digest_of(content)
    async with process.start().client() as http:
        await push_blob(http, NAME, content)
        locator = await _locator(database, digest)
        store.write(locator, bytes(len(content)))
        await _killed_in(process, _scrub(http), chance)
    async with process.start().client() as http:
        await _scrub(http)
        found = {one["digest"] for one in (await api(http, "GET", "/scrubs/damaged"))["items"]}
        if found != {digest}:
            violations.append(f"{digest} was damaged, and found were {sorted(found)}")
        await _killed_in(process, push_blob(http, NAME, content), chance)
    async with process.start().client() as http:
        await push_blob(http, NAME, content)
        async with http.get(f"/v2/{NAME}/blobs/{digest}") as response:
            if await response.read() != content:
                violations.append(f"{digest} was pushed again, and the answer is {response.status}")
        async with http.delete(f"/v2/{NAME}/blobs/{digest}") as response:
            assert response.status == 202, response.status
    return 2


async def _killed_in(process: ForkedServer, doing: Awaitable[object], chance: random.Random) -> None:
    task = asyncio.ensure_future(_until_killed(doing))
    await asyncio.sleep(chance.uniform(0, _KILLED_AFTER_SECONDS))
    process.kill()
    await task


async def _until_killed(doing: Awaitable[object]) -> None:
    try:
        await doing
    except (aiohttp.ClientError, ConnectionError):
        return


async def _scrub(http: aiohttp.ClientSession) -> None:
    begun = await api(http, "POST", "/scrubs", status=202, json={})
    async with asyncio.timeout(_END_SECONDS):
        while True:
            if (await api(http, "GET", f"/scrubs/{begun['id']}"))["ended_at"]:
                return
            await asyncio.sleep(0.02)


async def _locator(database: Database, digest: str) -> str:
    async with database.read_once() as connection:
        query = select(blobs.c.locator).where(blobs.c.digest == digest)
        return str((await connection.execute(query)).scalar_one())
