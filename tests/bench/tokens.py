"""What a token costs to check, and whether pages of tokens and users cost the same whatever their number."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop
from sqlalchemy import event
from sqlalchemy.engine import Engine

from registry.auth.firststart import admin_token_file, ensure_admin
from registry.auth.scopes import parse_requested_scopes
from registry.cli.process import opened_services
from registry.db.migrate import upgrade
from registry.settings import Settings
from tests.bench.figures import Figure, over, ratio
from tests.bench.load import Target, cpu_per_request
from tests.bench.manifests import binaries, postmaster
from tests.bench.ours import registry
from tests.kit.accountrows import fill_accounts
from tests.kit.postgres import PostgresServer, running_postgres

ROUNDS = 7
CHECKS = 5000
COUNT = 100
WARM_MICROSECONDS = 10
FEW, MANY = (100, 1_000), (10_000, 100_000)
"""Users and tokens."""
SAME = 1.2
"""What two rounds of the same differ by on a noisy machine."""
PAGES = {
    "page of tokens": "/api/v1/tokens?limit=100",
    "page of active tokens": "/api/v1/tokens?limit=100&state=active",
    "page of revoked tokens": "/api/v1/tokens?limit=100&state=revoked",
    "page of tokens that expire soon": "/api/v1/tokens?limit=100&expiring_within=36000",
    "page of unused tokens": "/api/v1/tokens?limit=100&unused_for=60",
    "page of users": "/api/v1/users?limit=100",
}


def tokens(scratch: Path) -> Iterator[Figure]:
    """Checks in this process, on SQLite; pages of a server on both databases."""
    samples, queries = uvloop.run(_checks(scratch / "checks"))
    for name, seconds in samples.items():
        yield over(f"warm check of {name}", seconds, "us", at_most=WARM_MICROSECONDS)
    yield Figure("queries of a cold API token", queries, "", at_most=1)
    with running_postgres(binaries()) as postgres:
        yield from _pages("SQLite", scratch / "sqlite", None)
        yield from _pages("PostgreSQL", scratch / "postgresql", postgres)


async def _checks(folder: Path) -> tuple[dict[str, list[float]], int]:
    folder.mkdir()
    settings = Settings(data=folder)
    await asyncio.to_thread(upgrade, settings.effective_database_url)
    async with opened_services(settings) as services:
        await ensure_admin(services.database, settings)
        service = services.tokens
        secret = admin_token_file(settings).read_text().strip()
        seen: list[str] = []

        def remember(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
            seen.append(text)

        event.listen(Engine, "before_cursor_execute", remember)
        actor = await service.credentials.from_api_token(secret, address="127.0.0.1")
        event.remove(Engine, "before_cursor_execute", remember)
        asked = parse_requested_scopes(["repository:bench/app:pull"])
        registered = (await service.mint(actor, asked)).text
        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "an API token": lambda: service.credentials.from_api_token(secret, address="127.0.0.1"),
            "a registry token": lambda: service.verify(registered, address="127.0.0.1"),
        }
        samples: dict[str, list[float]] = defaultdict(list)
        for i in range(ROUNDS + 1):
            for name, check in ways.items():
                began = time.process_time()
                for _ in range(CHECKS):
                    await check()
                if i:  # the first round warms up
                    samples[name].append((time.process_time() - began) / CHECKS * 1e6)
    return samples, len(seen)


def _pages(database: str, folder: Path, postgres: PostgresServer | None) -> Iterator[Figure]:
    folder.mkdir()
    samples: dict[tuple[str, tuple[int, int]], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        targets: dict[tuple[int, int], Target] = {}
        for rows in (FEW, MANY):
            url = postgres.url(postgres.create()) if postgres else None
            data = folder / str(rows[1])
            ours = stack.enter_context(registry(data, database_url=url))
            fill_accounts(url or f"sqlite:///{data / 'seatrial.db'}", users=rows[0], tokens=rows[1])
            # The database's own work counts as well.
            pids = (ours.service.process.pid, *(() if postgres is None else (postmaster(postgres),)))
            targets[rows] = Target("ours", ours.service.port, pids, ours.service.basic)
        for i in range(ROUNDS + 1):
            for rows, target in targets.items():
                for name, path in PAGES.items():
                    spent = cpu_per_request(target, "GET", path, count=COUNT)
                    if i:
                        samples[name, rows].append(spent)
    for name in PAGES:
        yield over(f"{database}, {name}, {FEW[1]:,} tokens", samples[name, FEW], "us")
        yield ratio(
            f"{database}, {name}, {MANY[1]:,} tokens over {FEW[1]:,}",
            samples[name, MANY],
            samples[name, FEW],
            at_most=SAME,
        )
