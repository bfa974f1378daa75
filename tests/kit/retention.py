"""Have a registry carry retention policies out, and make what is in it old."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import aiohttp
from sqlalchemy import BigInteger, literal, type_coerce, update

from registry.db.content import manifests, tag_history, tags
from registry.db.engine import Database
from tests.kit.access import api

_END_SECONDS = 60


async def set_policy(client: aiohttp.ClientSession, on: str, status: int = 200, **policy: Any) -> Any:
    """Set a policy of these members."""
    return await api(client, "PUT", "/retention", status=status, json={"on": on, **policy})


async def preview(client: aiohttp.ClientSession, on: str, **given: Any) -> dict[str, Any]:
    """What would go from a repository."""
    found = await api(client, "POST", "/retention/preview", json={"on": on, **given})
    return dict(found)


async def carry_out(client: aiohttp.ClientSession, on: str, **given: Any) -> dict[str, Any]:
    """Have the policy of a repository carried out; the run as it is at its end."""
    asked = await api(client, "POST", "/retention/runs", status=202, json={"on": on, **given})
    (begun,) = asked["items"]
    async with asyncio.timeout(_END_SECONDS):
        while True:
            run = await api(client, "GET", f"/retention/runs/{begun['id']}")
            if run["ended_at"]:
                return dict(run)
            await asyncio.sleep(0.02)


async def items_of(client: aiohttp.ClientSession, run: dict[str, Any]) -> list[dict[str, Any]]:
    """What a run has deleted."""
    page = await api(client, "GET", f"/retention/runs/{run['id']}/items", params={"limit": "1000"})
    return list(page["items"])


async def age(database: Database, days: float) -> None:
    """Let all that is there have happened so many days earlier."""
    by = timedelta(days=days) // timedelta(microseconds=1)
    async with database.write() as connection:
        for table, columns in (
            (manifests, ("pushed_at", "state_at")),
            (tags, ("updated_at",)),
            (tag_history, ("at", "over_at")),
        ):
            earlier = {name: _earlier(table.c[name], by) for name in columns}
            await connection.execute(update(table).values(earlier))


def _earlier(column: Any, by: int) -> Any:
    return type_coerce(type_coerce(column, BigInteger) - literal(by, BigInteger), column.type)
