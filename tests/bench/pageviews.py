"""What a page for people costs in a registry of a million tags, and two hundred of them who watch one log."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import aiohttp

from tests.bench.figures import Figure, over
from tests.bench.load import Target, cpu_per_request
from tests.bench.manifests import binaries, postmaster
from tests.bench.ours import Ours, registry
from tests.bench.processes import tree_cpu_seconds
from tests.kit.access import basic, give_role, make_user
from tests.kit.everypage import furnish, read_pages
from tests.kit.matching import put_file
from tests.kit.pagecontent import HARM
from tests.kit.postgres import running_postgres
from tests.kit.rows import Stocked, Tagged, fill_stocked, fill_tagged
from tests.kit.server import Registry
from tests.kit.trials import REPOSITORY, Port, pull_token, tiny_image

REPOSITORIES, TAGS, MOST = 1_000, 1_000, 100_000
ON_SQLITE = 10
"""So many times fewer tags there."""
LONG = "long/lists"
ROUNDS, COUNT, CONNECTIONS = 3, 20, 2
PAGE_MILLISECONDS, FIRST_VISIT_KB, CORES = 30, 100, 1
ACCOUNTS, STREAMS = 10, 20
WATCHED_SECONDS, WRITES_EACH_SECOND, LINES = 20, 2, 10
"""Workers tell once a second; here twice."""


def pageviews(scratch: Path) -> Iterator[Figure]:
    """Each page of the table, on both databases; lists of many tags; who watches."""
    with running_postgres(binaries()) as postgres:
        for database, url, fewer, pids in (
            ("SQLite", None, ON_SQLITE, ()),
            ("PostgreSQL", postgres.url(postgres.create()), 1, (postmaster(postgres),)),
        ):
            yield from _measured(database, scratch / database.lower(), url, fewer, pids)


def _measured(
    database: str, data: Path, url: str | None, fewer: int, pids: tuple[int, ...]
) -> Iterator[Figure]:
    with registry(data, database_url=url):
        pass  # which makes the database
    where = url or f"sqlite:///{data / 'seatrial.db'}"
    fill_tagged(where, Tagged(LONG, MOST))
    fill_stocked(where, Stocked(REPOSITORIES, TAGS // fewer))
    (data / "advisories").mkdir(exist_ok=True)
    put_file(data / "advisories" / "advisories.sqlite", HARM, day=1)
    settings = {"trial_on_push": "true", "collection_every_seconds": "0"}
    with registry(data, database_url=url, settings=settings) as ours:
        values = asyncio.run(_furnished(ours))
        pages = {
            **{path: page for path, page in read_pages(values).items() if not path.endswith("/live")},
            f"/r/{{name}} of {MOST:,} tags": f"/r/{LONG}",
            f"/r/{{name}} of {MOST:,} tags, those in a state": f"/r/{LONG}?state=fail&order=name",
            f"/r/{{name}} of {MOST:,} tags, those with a word": f"/r/{LONG}?find=7.7&order=updated",
            f"/r/{{name}} of {TAGS // fewer:,} tags": f"/r/stock/{REPOSITORIES // 2:08}",
        }
        target = Target("ours", ours.service.port, (ours.service.process.pid, *pids), ours.service.basic)
        many = f"{REPOSITORIES * TAGS // fewer:,} tags, {database}"
        for words, address in pages.items():
            spent = [
                cpu_per_request(target, "GET", address, count=COUNT, connections=CONNECTIONS) / 1000
                for _ in range(ROUNDS)
            ]
            yield over(f"{words}, {many}", spent, "ms", at_most=PAGE_MILLISECONDS)
        size = _first_visit(ours)
        yield Figure(f"first visit to /, {database}", size / 1024, "KiB", at_most=FIRST_VISIT_KB)
        yield asyncio.run(_watched(ours, database, pids))


def _first_visit(ours: Ours) -> int:
    """The bytes of the page and of all that it loads, as a browser takes them."""
    headers = {**ours.service.basic, "Accept": "text/html", "Accept-Encoding": "gzip, br"}
    with closing(http.client.HTTPConnection("127.0.0.1", ours.service.port, timeout=60)) as connection:

        def read(path: str) -> tuple[int, bytes]:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            raw = answer.read()
            return len(raw), gzip.decompress(raw) if answer.headers["Content-Encoding"] == "gzip" else raw

        size, page = read("/")
        return size + sum(read(path)[0] for path in sorted(set(re.findall(r"/assets/[^\"]+", page.decode()))))


@asynccontextmanager
async def _port(ours: Ours) -> AsyncIterator[Port]:
    found = Registry(f"127.0.0.1:{ours.service.port}", ours.service.token)
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(found.client())
        reader = await stack.enter_async_context(found.client(await pull_token(admin)))
        yield Port(found, admin, reader, stack)


async def _furnished(ours: Ours) -> Mapping[str, str]:
    async with _port(ours) as port:
        return await furnish(port)


async def _watched(ours: Ours, database: str, pids: tuple[int, ...]) -> Figure:
    """The share of a core that registry and database take while a log is written that 200 people watch."""
    people = ACCOUNTS * STREAMS
    seen = [0] * people
    async with _port(ours) as port:
        await port.push(tiny_image(), tag="watched")
        worker = await port.worker("watched")
        job = await worker.claim()
        told = {"protocol": job["protocol"], "lease": job["lease"], "run": 0, "name": "smoke"}
        async with asyncio.TaskGroup() as group:
            watching = []
            for number in range(ACCOUNTS):
                name = f"watcher{number}"
                headers = basic(name, await make_user(port.admin, name))
                await give_role(port.admin, REPOSITORY, f"user:{name}", "writer")
                client = aiohttp.ClientSession(
                    port.registry.url, headers=headers, connector=aiohttp.TCPConnector(limit=0)
                )
                await port.stack.enter_async_context(client)
                own = range(number * STREAMS, (number + 1) * STREAMS)
                watching += [group.create_task(_watch(client, job["trial"], seen, one)) for one in own]
            async with asyncio.timeout(60):
                while not all(seen):
                    assert (await worker.renew(job)).status == 200
                    await asyncio.sleep(1)
            before, began = sum(map(tree_cpu_seconds, (ours.service.process.pid, *pids))), time.monotonic()
            position = 0
            for write in range(WATCHED_SECONDS * WRITES_EACH_SECOND):
                lines = [
                    f"\x1b[32minfo\x1b[0m {write} {line} listening on port 8080\n" for line in range(LINES)
                ]
                text = "".join(lines)
                answer = await worker.post("log", told | {"position": position, "text": text})
                assert answer.status == 200, answer.body
                assert (await worker.renew(job)).status == 200
                position += len(text)
                await asyncio.sleep(max(0, began + (write + 1) / WRITES_EACH_SECOND - time.monotonic()))
            spent = sum(map(tree_cpu_seconds, (ours.service.process.pid, *pids))) - before
            seconds = time.monotonic() - began
            await asyncio.sleep(2)
            for one in watching:
                one.cancel()
        assert min(seen) > position, "somebody was not told all"
    lines_each_second = WRITES_EACH_SECOND * LINES
    return Figure(
        f"{people} people watch one log of {lines_each_second} lines a second, {database}",
        spent / seconds,
        "cores",
        at_most=CORES,
    )


async def _watch(client: aiohttp.ClientSession, trial: str, seen: list[int], number: int) -> None:
    async with client.get(f"/trials/{trial}/live", timeout=aiohttp.ClientTimeout(total=None)) as stream:
        assert stream.status == 200, await stream.text()
        async for piece in stream.content.iter_any():
            seen[number] += len(piece)
