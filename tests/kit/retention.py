"""Have a registry carry retention policies out, and make what is in it old."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import aiohttp
from sqlalchemy import BigInteger, literal, select, true, type_coerce, update

from registry.db.content import blob_links, deleted_manifests, manifests, repositories, tag_history, tags
from registry.db.engine import Database
from tests.kit.access import api
from tests.kit.distribution import push_small

NAME = "team/app"
_END_SECONDS = 60


async def pushed(client: aiohttp.ClientSession, *tags: str, name: str = NAME) -> list[str]:
    """Push a small image to each tag; their digests."""
    return [await push_small(client, name, tag, annotations={"tag": tag}) for tag in tags]


async def names(client: aiohttp.ClientSession, name: str = NAME) -> set[str]:
    """The tags of a repository."""
    found = await api(client, "GET", f"/repositories/{name.replace('/', '%2F')}/tags")
    return {one["name"] for one in found["items"]}


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


async def age(database: Database, days: float, *, of: Collection[str] | None = None) -> None:
    """Let all that is there, or in these repositories, have happened so many days earlier."""
    by = timedelta(days=days) // timedelta(microseconds=1)
    these = select(repositories.c.id).where(repositories.c.name.in_(of or ()))
    async with database.write() as connection:
        for table, columns in (
            (manifests, ("pushed_at", "pushed_again_at", "state_at")),
            (tags, ("updated_at",)),
            (tag_history, ("at", "over_at")),
            (blob_links, ("created_at", "review_at")),
            (deleted_manifests, ("deleted_at",)),
        ):
            earlier = {name: _earlier(table.c[name], by) for name in columns}
            here = true() if of is None else table.c.repository_id.in_(these)
            await connection.execute(update(table).where(here).values(earlier))


def _earlier(column: Any, by: int) -> Any:
    return type_coerce(type_coerce(column, BigInteger) - literal(by, BigInteger), column.type)
