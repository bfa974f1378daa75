"""Files of advisories as hosts have them, and what came of them in a registry."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from registry.advisories.building import build
from registry.db.engine import Database
from registry.db.events import events
from registry.trials.matcher import Matcher
from registry.trials.rematching import catch_up, progress_of
from tests.kit.advisories import AS_OF, incoming
from tests.kit.trials import Port

DAY = 24 * 3600
_FIRST = int(datetime.fromisoformat(AS_OF).timestamp()) - 1000 * DAY


def put_file(path: Path, *records: object, day: int, source: str = "own", as_of: str = AS_OF) -> Path:
    """Put a file of advisories with these records in its place, so many days after the first."""
    aside = path.with_name(f"{path.name}.aside")
    build(aside, [incoming(source, *records, as_of=as_of)])
    # A registry that looks meanwhile shall never see it with the time of now.
    os.utime(aside, (_FIRST + day * DAY,) * 2)
    return aside.replace(path)


@asynccontextmanager
async def open_matcher(path: Path) -> AsyncIterator[Matcher]:
    """What a replica with the file at ``path`` matches with."""
    matcher = Matcher(path)
    try:
        yield matcher
    finally:
        await matcher.close()


async def caught_up(database: Database, path: Path) -> int:
    """What a replica with the file at ``path`` does when it looks; how many images it told of."""
    async with open_matcher(path) as matcher:
        return await catch_up(database, matcher)


async def told(database: Database, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """All events of a kind, in their order: where, and what they say."""
    query = select(events.c.repository, events.c.data).where(events.c.kind == kind).order_by(events.c.id)
    async with database.read() as connection:
        return [(where, json.loads(data)) for where, data in await connection.execute(query)]


async def count(database: Database, table: Any) -> int:
    """How many rows there are."""
    async with database.read() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def advise(port: Port, *records: object, day: int) -> None:
    """Let this be all that a registry knows of packages from now on, and of each image that holds them."""
    assert port.registry.services is not None
    path = port.registry.services.settings.advisories_file
    path.parent.mkdir(parents=True, exist_ok=True)
    put_file(path, *records, day=day)
    # By this process, or by the server, whichever comes first.
    await caught_up(port.database, path)
    async with asyncio.timeout(60):
        while (progress := await progress_of(port.database)) is None or progress.ended_at is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
