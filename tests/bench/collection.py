"""What a registry with a million tags, blobs and manifests takes for a page of them, and to delete ten
thousand blobs that nothing names, while somebody pushes."""

from __future__ import annotations

import http.client
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from tests.bench.figures import Figure, over
from tests.bench.manifests import binaries, postmaster
from tests.bench.ours import PRIVATE, Ours, registry
from tests.bench.processes import tree_cpu_seconds
from tests.bench.pushing import answer, push_bytes
from tests.kit.distribution import EMPTY_CONFIG, small_manifest
from tests.kit.images import OCI_MANIFEST
from tests.kit.postgres import running_postgres
from tests.kit.rows import DRIVERS, Linked, Tagged, dead_locator, fill_linked, fill_tagged

ROWS = 1_000_000
ON_SQLITE = 10
"""So many times fewer there."""
DEAD = 10_000
LINES = 1000
"""Moves of the one tag whose history is read: as many as are kept."""
WARM, PAGES, PUSHES = 20, 200, 500
PAGE_MILLISECONDS, SECONDS, SLOWER = 5, 60, 2
NAME = "long/lists"


def collection(scratch: Path) -> Iterator[Figure]:
    """Pages by the clock, as a client sees them; a collection, and pushes before and beside it."""
    with running_postgres(binaries()) as postgres:
        for database, url, rows, pids in (
            ("SQLite", None, ROWS // ON_SQLITE, ()),
            ("PostgreSQL", postgres.url(postgres.create()), ROWS, (postmaster(postgres),)),
        ):
            yield from _measured(database, scratch / database.lower(), url, rows, pids)


def _measured(
    database: str, data: Path, url: str | None, rows: int, pids: tuple[int, ...]
) -> Iterator[Figure]:
    with registry(data, database_url=url):
        pass  # which makes the database
    _fill(url or f"sqlite:///{data / 'seatrial.db'}", data, rows)
    settings = {"collection_every_seconds": "0"}
    with registry(data, database_url=url, core=None, settings=settings) as ours:
        for words, path in _pages(rows).items():
            what = f"{words}, {rows:,} tags and manifests, {3 * rows:,} edges, {database}"
            before = _cpu(ours, pids)
            taken = _milliseconds(ours, path)
            worked = (_cpu(ours, pids) - before) * 1000 / (WARM + PAGES)
            yield over(what, taken, "ms", at_most=PAGE_MILLISECONDS)
            yield Figure(f"{what}, processor time of registry and database", worked, "ms")
        yield from _collected(database, ours, rows)


def _cpu(ours: Ours, pids: tuple[int, ...]) -> float:
    return sum(map(tree_cpu_seconds, (ours.service.process.pid, *pids)))


def _fill(url: str, data: Path, rows: int) -> None:
    fill_tagged(url, Tagged(repository=NAME, tags=rows))
    fill_linked(url, Linked(repository=NAME, blobs=rows, dead=DEAD))
    for number in range(DEAD):
        locator = dead_locator(number)
        file = data / "blobs" / "blobs" / locator[-2:] / locator
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_bytes(bytes(16))
    parsed = make_url(url)
    engine = create_engine(parsed.set(drivername=DRIVERS[parsed.get_backend_name()]))
    values = ", ".join(f"({number})" for number in range(LINES))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"""
            INSERT INTO tag_history (repository_id, name, action, new_digest, actor, at, over_at)
            SELECT h.repository_id, h.name, h.action, h.new_digest, h.actor, h.at, h.at
            FROM tag_history h, (VALUES {values}) AS lines WHERE h.name = '1.0.0'""")
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()


def _pages(rows: int) -> dict[str, Callable[[], str]]:
    def tag() -> str:
        number = random.randrange(rows)
        return f"1.{number // 1000}.{number % 1000}"

    api = f"/api/v1/repositories/{quote(NAME, safe='')}"
    return {
        "page of 100 tags": lambda: f"/v2/{NAME}/tags/list?n=100&last={tag()}",
        "page of 50 tags with state and platforms": lambda: f"{api}/tags?limit=50&cursor={tag()}",
        "page of 50 moves of a tag with 1,000": lambda: f"{api}/tags/1.0.0/history?limit=50",
    }


def _milliseconds(ours: Ours, path: Callable[[], str]) -> list[float]:
    taken: list[float] = []
    with closing(http.client.HTTPConnection("127.0.0.1", ours.service.port, timeout=60)) as connection:
        for number in range(-WARM, PAGES):
            asked = path()
            began = time.perf_counter()
            connection.request("GET", asked, headers=ours.service.basic)
            answer(connection, 200)
            if number >= 0:
                taken.append((time.perf_counter() - began) * 1000)
    return taken


def _collected(database: str, ours: Ours, rows: int) -> Iterator[Figure]:
    with closing(http.client.HTTPConnection("127.0.0.1", ours.service.port, timeout=60)) as connection:
        push_bytes(connection, ours.service.basic, PRIVATE, EMPTY_CONFIG)
        for _ in range(WARM):
            _push(connection, ours)
        before = [_push(connection, ours) for _ in range(PUSHES)]
        begun = ours.service.request("/api/v1/collections", method="POST")
        beside: list[float] = []
        while not (found := ours.service.request(f"/api/v1/collections/{begun['id']}"))["ended_at"]:
            beside += [_push(connection, ours) for _ in range(10)]
    assert (found["blobs_removed"], found["links_removed"]) == (DEAD, DEAD), found
    took = datetime.fromisoformat(found["ended_at"]) - datetime.fromisoformat(found["asked_at"])
    of = f"{DEAD:,} dead blobs of {rows:,}, {database}"
    yield Figure(f"collection of {of}", took.total_seconds(), "s", at_most=SECONDS)
    calm, busy = _of_100_the_99th(before), _of_100_the_99th(beside)
    yield Figure(f"push before it, of 100 the 99th, {database}", calm, "ms")
    yield Figure(
        f"push beside the collection of {of}, of 100 the 99th",
        busy / calm,
        "x",
        at_most=SLOWER,
        note=f"{busy:.1f} ms, of {len(beside)} pushes",
    )


def _push(connection: http.client.HTTPConnection, ours: Ours) -> float:
    """Push an image that nobody has seen; the milliseconds it took."""
    layer = os.urandom(1024)
    began = time.perf_counter()
    push_bytes(connection, ours.service.basic, PRIVATE, layer)
    headers = {**ours.service.basic, "Content-Type": OCI_MANIFEST}
    body = small_manifest([layer])
    connection.request("PUT", f"/v2/{PRIVATE}/manifests/latest", body=body, headers=headers)
    answer(connection, 201)
    return (time.perf_counter() - began) * 1000


def _of_100_the_99th(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=100)[98]
