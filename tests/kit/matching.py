"""Files of advisories as hosts have them, and what came of them in a registry."""

from __future__ import annotations

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
from registry.trials.rematching import catch_up
from tests.kit.advisories import AS_OF, incoming

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
