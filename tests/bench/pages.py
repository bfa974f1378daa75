"""Whether pages of tags and of the catalog, and the start, cost the same whatever the number of rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.bench.figures import Figure, over, ratio
from tests.bench.load import Target, cpu_per_request
from tests.bench.manifests import binaries, postmaster
from tests.bench.ours import PRIVATE, Ours, fill, push_admitted, registry
from tests.bench.processes import Service
from tests.kit.postgres import PostgresServer, running_postgres

ROUNDS = 7
STARTS = 3
COUNT = 100
FEW = 1_000
MANY = 1_000_000
SAME = 1.2
"""What two rounds of the same differ by on a noisy machine."""


def pages(scratch: Path) -> Iterator[Figure]:
    """A page of 100 from the middle, and the start, with 1,000 and with 1,000,000 tags and repositories."""
    with running_postgres(binaries()) as postgres:
        yield from _compared("SQLite", scratch / "sqlite", None)
        yield from _compared("PostgreSQL", scratch / "postgresql", postgres)


def _compared(database: str, folder: Path, postgres: PostgresServer | None) -> Iterator[Figure]:
    folder.mkdir()
    urls = {rows: postgres.url(postgres.create()) if postgres else None for rows in (FEW, MANY)}
    starts: dict[int, list[float]] = defaultdict(list)
    samples: dict[tuple[str, int], list[float]] = defaultdict(list)
    for rows, url in urls.items():
        with registry(folder / str(rows), database_url=url) as ours:
            push_admitted(ours)
            fill(ours, tags=rows, repositories=rows)
    for i in range(STARTS + 1):
        for rows, url in urls.items():
            with registry(folder / str(rows), database_url=url) as ours:
                if i:
                    starts[rows].append(ours.service.start_seconds)
    with ExitStack() as stack:
        running = {
            rows: stack.enter_context(registry(folder / str(rows), database_url=url))
            for rows, url in urls.items()
        }
        paths = {
            rows: {
                "tags": f"/v2/{PRIVATE}/tags/list?n=100&last=t{rows // 2:07}",
                "catalog": f"/v2/_catalog?n=100&last=bulk/r{rows // 2:07}",
            }
            for rows in urls
        }
        # The database's own work counts as well.
        pids = () if postgres is None else (postmaster(postgres),)
        for i in range(ROUNDS + 1):
            for rows, ours in running.items():
                target = _reader(ours.service, pids)
                for kind, path in paths[rows].items():
                    spent = cpu_per_request(target, "GET", path, count=COUNT)
                    if i:
                        samples[kind, rows].append(spent)
        few = {rows: _limited(ours, rows, pids) for rows, ours in running.items()}
        for i in range(ROUNDS + 1):
            for rows, target in few.items():
                spent = cpu_per_request(target, "GET", "/v2/_catalog?n=100", count=COUNT)
                if i:
                    samples["limited", rows].append(spent)
    for kind, words in (
        ("tags", "page of tags"),
        ("catalog", "page of the catalog"),
        ("limited", "page of the catalog for who may read 10 of them"),
    ):
        yield over(f"{database}, {words}, 1,000 there", samples[kind, FEW], "us")
        yield ratio(
            f"{database}, {words}, 1,000,000 over 1,000",
            samples[kind, MANY],
            samples[kind, FEW],
            at_most=SAME,
        )
    yield over(f"{database}, start of serve, 1,000 rows of each", starts[FEW], "s")
    yield ratio(f"{database}, start of serve, 1,000,000 over 1,000", starts[MANY], starts[FEW], at_most=SAME)


def _reader(service: Service, pids: tuple[int, ...]) -> Target:
    return Target("ours", service.port, (service.process.pid, *pids), service.basic)


def _limited(ours: Ours, rows: int, pids: tuple[int, ...]) -> Target:
    """Somebody who may pull the last ten repositories of all."""
    scope = f"repository:bulk/r{(rows - 1) // 10:06}*:pull"
    body = {"name": "limited", "scopes": [scope]}
    made = ours.service.request("/api/v1/tokens", method="POST", body=body)
    headers = {"Authorization": f"Bearer {made['token']}"}
    return Target("ours", ours.service.port, (ours.service.process.pid, *pids), headers)
