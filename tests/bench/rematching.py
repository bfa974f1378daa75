"""What it costs a registry to match all packages of its images, and again after a day's advisories, on both
databases: each in a process of its own, as a replica that looks does it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import event, insert, select, text
from sqlalchemy.engine import Engine

from registry.advisories.building import build
from registry.db.content import blobs, manifest_contents, manifests, repositories
from registry.db.engine import Database
from registry.db.events import events
from registry.db.migrate import upgrade
from registry.db.scans import components, image_scans, scans
from registry.db.types import db_time
from tests.bench.advisories import DISTINCT, ECOSYSTEMS, IMAGES, NAMES, PACKAGES, RECORDS
from tests.bench.figures import Figure
from tests.bench.manifests import binaries
from tests.bench.processes import peak_bytes
from tests.kit.advisories import CVSS3, affects, incoming, record
from tests.kit.matching import caught_up
from tests.kit.postgres import running_postgres

NEWS = 100
"""Records that the second file has beside those of the first: a day's."""
SECONDS, MIB = 10, 256


def rematching(scratch: Path) -> Iterator[Figure]:
    """The registry's own processor time (on SQLite that of the database as well), memory and statements."""
    with running_postgres(binaries()) as postgres:
        for name, url in (
            ("SQLite", f"sqlite:///{scratch / 'images.db'}"),
            ("PostgreSQL", postgres.url(postgres.create())),
        ):
            asyncio.run(_fill(url))
            yield from _figures(name, scratch / name, url)


def _figures(name: str, folder: Path, url: str) -> Iterator[Figure]:
    folder.mkdir()
    path = folder / "advisories.sqlite"
    build(path, [incoming("own", *_records(RECORDS))])
    first = _looked(path, url)
    build(path, [incoming("own", *_records(RECORDS + NEWS))])
    again = _looked(path, url)
    idle = _looked(path, url)
    of = f"{IMAGES:,} images of {PACKAGES} packages, {name}"
    note = f"{DISTINCT:,} distinct packages; {first['told']:,.0f} images told; {first['wall']:.1f} s"
    yield Figure(f"first matching of {of}, processor time", first["seconds"], "s", note=note)
    note = f"{NEWS} new records; {again['told']:,.0f} images told; {again['wall']:.1f} s"
    yield Figure(f"matching anew of {of}, processor time", again["seconds"], "s", at_most=SECONDS, note=note)
    yield Figure(f"matching anew of {of}, peak memory", again["mib"], "MiB", at_most=MIB)
    yield Figure(f"matching anew of {of}, statements", again["statements"], "")
    yield Figure(f"a look when nothing is new, {name}, statements", idle["statements"], "", at_most=5)
    told = first["told"] + again["told"]
    yield Figure(f"images told twice or never, {name}", abs(told - again["events"]), "", at_most=0)


def _records(count: int) -> list[Any]:
    source = random.Random(1)
    records = []
    for number in range(count):
        name = f"package-{source.randrange(NAMES)}"
        first, second = source.randrange(1, 9), source.randrange(10, 19)
        spans = ("introduced=0", f"fixed={first}.0.1", f"introduced={second}.0.0", f"fixed={second}.2.0")
        affected = affects(ECOSYSTEMS[number % len(ECOSYSTEMS)], name, *spans)
        more = {"aliases": [f"CVE-2026-{10_000 + number}"], "summary": "what is wrong"}
        more["severity"] = [{"type": "CVSS_V3", "score": CVSS3}]
        records.append(record(f"X-{number}", affected, **more))
    return records


def _looked(path: Path, url: str) -> dict[str, float]:
    child = [sys.executable, "-m", "tests.bench.rematching", str(path), url]
    done = subprocess.run(child, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


async def _look(path: Path, url: str) -> dict[str, float]:
    statements = 0

    def hear(*_: Any) -> None:
        nonlocal statements
        statements += 1

    event.listen(Engine, "before_cursor_execute", hear)
    database = Database(url)
    began, wall = time.process_time(), time.perf_counter()
    told = await caught_up(database, path)
    seconds, wall = time.process_time() - began, time.perf_counter() - wall
    counted = statements
    async with database.read() as connection:
        kind = events.c.kind == "image.findings_changed"
        written = len((await connection.execute(select(events.c.id).where(kind))).all())
    await database.close()
    return {
        "seconds": seconds,
        "wall": wall,
        "mib": peak_bytes(os.getpid()) / 2**20,
        "statements": counted,
        "told": told,
        "events": written,
    }


async def _fill(url: str) -> None:
    await asyncio.to_thread(upgrade, url)
    database = Database(url)
    source = random.Random(2)
    async with database.write() as connection:
        place = {"name": "team/app", "visibility": "private", "gate": "off", "trial_on_push": False}
        await connection.execute(insert(repositories).values(id=1, **place, created_at=db_time()))
        blob = {"id": 1, "digest": "sha256:b", "size": 1, "locator": "l"}
        await connection.execute(insert(blobs).values(**blob, created_at=db_time()))
        digests = [f"sha256:{number:064x}" for number in range(IMAGES)]
        await connection.execute(
            insert(manifest_contents), [{"digest": one, "raw": b"{}"} for one in digests]
        )
        image = {"repository_id": 1, "media_type": "m", "size": 2, "runnable": True, "state": "pass"}
        at = {"state_at": db_time(), "pushed_at": db_time()}
        rows = [{"id": number, "digest": one} for number, one in enumerate(digests, 1)]
        await connection.execute(insert(manifests).values(**image, **at), rows)
        scan = {"blob_id": 1, "platform": "linux/amd64", "scanner": "s", "system": "", "packages": PACKAGES}
        scan |= {"found": 0, "incomplete": 0, "truncated": False, "created_at": db_time()}
        rows = [{"id": row["id"], "digest": row["digest"], "document_digest": row["digest"]} for row in rows]
        await connection.execute(insert(scans).values(scan), rows)
        held = [{"manifest_id": row["id"], "scan_id": row["id"]} for row in rows]
        await connection.execute(insert(image_scans).values(worker="w", taken_at=db_time()), held)
        packages = [
            {
                "id": place,
                "key": f"{place:064x}",
                "kind": "npm",
                "ecosystem": ECOSYSTEMS[place % len(ECOSYSTEMS)],
                "source": f"package-{source.randrange(2 * NAMES)}",
                "source_version": f"{source.randrange(1, 19)}.{source.randrange(3)}.{source.randrange(3)}",
            }
            for place in range(1, DISTINCT + 1)
        ]
        packages = [{**one, "name": one["source"], "version": one["source_version"]} for one in packages]
        await connection.execute(insert(components), packages)
        await connection.execute(text(_HOLD[database.is_sqlite]))
        await connection.execute(text("ANALYZE"))
    await database.close()


# Of each image so many packages in a row, from a place that its number decides.
_COLUMNS = "INSERT INTO scan_components (scan_id, component_id, owned, layer) SELECT scans.id, "
_PLACE = f"1 + (scans.id * 7919 + k) % {DISTINCT}"
_HOLD = {
    True: f"WITH RECURSIVE n(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM n WHERE k < {PACKAGES - 1}) "
    f"{_COLUMNS} {_PLACE}, 0, 0 FROM scans, n",
    False: f"{_COLUMNS} {_PLACE}, false, 0 FROM scans, generate_series(0, {PACKAGES - 1}) AS n(k)",
}


if __name__ == "__main__":
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
    print(json.dumps(asyncio.run(_look(Path(sys.argv[1]), sys.argv[2]))))
