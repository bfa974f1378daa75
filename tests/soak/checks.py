"""What must hold below the API: rows and bytes agree, nothing is left of what nothing names, usage is exact,
and what was begun ends."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import aiohttp
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from registry.db.dialect import blocking_url
from tests.kit.access import api
from tests.kit.images import digest_of
from tests.kit.modelcontents import Contents
from tests.kit.usage import recounted

_END_SECONDS = 60
_LEFT = {
    "links that no manifest of their repository names": """
        SELECT count(*) FROM blob_links JOIN blobs ON blobs.id = blob_links.blob_id
        WHERE NOT EXISTS (
            SELECT 1 FROM edges JOIN manifests ON manifests.id = edges.manifest_id
            WHERE edges.digest = blobs.digest AND manifests.repository_id = blob_links.repository_id
        )""",
    "blobs that no repository shows": """
        SELECT count(*) FROM blobs
        WHERE NOT EXISTS (SELECT 1 FROM blob_links WHERE blob_links.blob_id = blobs.id)""",
    "bytes of manifests that no repository has": """
        SELECT count(*) FROM manifest_contents
        WHERE NOT EXISTS (SELECT 1 FROM manifests WHERE manifests.digest = manifest_contents.digest)""",
    "dead bytes": "SELECT count(*) FROM dead_blobs",
}


@dataclass(frozen=True, slots=True)
class Store:
    """What a server keeps bytes in, beside it: ``read`` gives those under a locator (``None``: there are
    none), ``write`` puts others there. ``make_old`` lets all have been written long ago, and ``locators`` are
    all that there are, where that can be done (``None``: it cannot)."""

    read: Callable[[str], bytes | None]
    write: Callable[[str, bytes], None]
    make_old: Callable[[], None]
    locators: Callable[[], set[str]] | None


def check_rows(database_url: str, store: Store) -> list[str]:
    """What is wrong below the API: rows whose bytes are missing or others, tags that lead nowhere, a damaged
    database file."""
    wrong = []
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(url.database))) as database:
            wrong += [str(row) for row in database.execute("PRAGMA foreign_key_check")]
            said = database.execute("PRAGMA integrity_check").fetchone()[0]
            wrong += [] if said == "ok" else [said]
    engine = create_engine(blocking_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        for digest, size, locator in connection.execute(text("SELECT digest, size, locator FROM blobs")):
            content = store.read(locator)
            if content is None:
                wrong.append(f"the bytes of {digest} are not there")
            elif len(content) != size or digest != digest_of(content):
                wrong.append(f"the bytes of {digest} are others")
        astray = connection.execute(
            text(
                "SELECT tags.name FROM tags LEFT JOIN manifests ON manifests.id = tags.manifest_id "
                "WHERE manifests.id IS NULL OR manifests.repository_id <> tags.repository_id"
            )
        )
        wrong += [f"the tag {name} leads nowhere" for (name,) in astray]
    engine.dispose()
    return wrong


def check_usage(database_url: str) -> list[str]:
    """Where what repositories hold is counted otherwise than it is."""
    try:
        recounted(database_url)
    except AssertionError as error:
        return [f"usage is not exact: {error}"]
    return []


def nothing_stays(database_url: str, store: Store) -> list[str]:
    """What is there though nothing names it: after collections, and days in which nobody did anything."""
    engine = create_engine(blocking_url(make_url(database_url)), poolclass=NullPool)
    with engine.connect() as connection:
        counted = {what: connection.execute(text(query)).scalar_one() for what, query in _LEFT.items()}
        wrong = [f"{number} {what} stay" for what, number in counted.items() if number]
        if store.locators is not None:
            wrong += [f"no row names the bytes {one}" for one in store.locators() - _named(connection)]
    engine.dispose()
    return wrong


def _named(connection: Connection) -> set[str]:
    query = "SELECT locator FROM blobs UNION SELECT locator FROM upload_sessions"
    return {str(locator) for (locator,) in connection.execute(text(query))}


async def let_all_end(http: aiohttp.ClientSession, contents: Contents) -> None:
    """Wait until no collection, no scrub, and no retention run in these repositories is going on."""
    latest = {"limit": "1"}
    async with asyncio.timeout(_END_SECONDS):
        while True:
            begun = [*await api(http, "GET", "/collections"), *await api(http, "GET", "/scrubs")]
            for number in range(2):
                runs = f"/retention/runs?on={contents.name(number)}"
                answer = await http.get(f"/api/v1{runs}", params=latest)
                begun += (await answer.json())["items"] if answer.status == 200 else []
            if all(one["ended_at"] for one in begun):
                return
            await asyncio.sleep(0.05)
