"""How much repositories hold: what triggers keep, and what is counted anew, are the same."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from alembic import command
from sqlalchemy import create_engine, delete, func, insert, select, text, true, update
from sqlalchemy.engine import make_url

from registry.content import uploads
from registry.db import migrate
from registry.db.content import blob_links, blobs, manifests, repositories, tags, upload_sessions
from registry.db.dialect import blocking_url
from registry.db.types import db_time
from registry.db.usage import repository_usage, usage_changes
from tests.kit.access import api, ask, basic, give_role, make_user
from tests.kit.distribution import push_blob, push_small, start_upload
from tests.kit.images import digest_of
from tests.kit.server import Registry
from tests.kit.usage import recounted

APP = "team/app"
OTHER = "team/other"
BEFORE = "0058"
_REPOSITORY = "visibility, gate, trial_on_push, image_spec_allowed, policy_version, created_at"
_MANIFEST = "media_type, size, annotations, runnable, state, state_reason, state_at, pushed_by, pushed_at"
_SESSION = "repository_id, locator, digest_algorithm, created_at, expires_at"
CONTENT = (
    *(
        f"INSERT INTO repositories (id, name, {_REPOSITORY})"
        f" VALUES ({number}, '{name}', 'private', 'warn', true, false, 1, 1)"
        for number, name in ((1, "full"), (2, "empty"))
    ),
    *(
        "INSERT INTO blobs (id, digest, size, locator, created_at)"
        f" VALUES ({number}, 'd{number}', {size}, 'l{number}', 1)"
        for number, size in ((1, 5_000_000_000), (2, 70))
    ),
    "INSERT INTO blob_links (repository_id, blob_id, created_at) VALUES (1, 1, 1), (1, 2, 1)",
    "INSERT INTO manifest_contents (digest, raw) VALUES ('m', '1')",
    (
        f"INSERT INTO manifests (id, repository_id, digest, {_MANIFEST})"
        " VALUES (1, 1, 'm', 'm', 9, '{}', false, 'untried', '', 1, '', 1)"
    ),
    *(
        "INSERT INTO tags (repository_id, name, manifest_id, updated_at, updated_by)"
        f" VALUES (1, '{name}', 1, 1, 'a')"
        for name in ("a", "b", "c")
    ),
    f"INSERT INTO upload_sessions (id, {_SESSION}) VALUES ('s', 1, 'l', 'sha256', 1, 2)",
)
"""A repository with two blobs, a manifest, three tags and an upload, and one without."""


def test_what_there_is_already_is_counted(empty_database_url: str) -> None:
    engine = create_engine(blocking_url(make_url(empty_database_url)))
    with engine.begin() as connection:
        config = migrate.alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, BEFORE)
    with engine.begin() as connection:
        for statement in CONTENT:
            connection.execute(text(statement))
    engine.dispose()
    migrate.upgrade(empty_database_url)
    assert recounted(empty_database_url) == {"full": (5_000_000_079, 3, 1), "empty": (0, 0, 0)}


async def test_whatever_way_it_comes_and_goes(
    client: aiohttp.ClientSession, registry: Registry, database_url: str
) -> None:
    async def counted() -> dict[str, tuple[int, int, int]]:
        return await asyncio.to_thread(recounted, database_url)

    one, two = b"x" * 1000, b"y" * 300
    for content in (one, two, one):
        await push_blob(client, APP, content)
    assert await counted() == {APP: (1300, 0, 0)}
    first = await push_small(client, APP, "a")
    image = (await counted())[APP][0] - 1300
    await push_small(client, APP, "a")
    await push_small(client, APP, "b")
    assert await counted() == {APP: (1300 + image, 2, 0)}
    # A mount counts where it goes; of two at once, and of what is there already, only one.
    query = {"mount": digest_of(one), "from": APP}
    mounts = [ask(client, "POST", f"/v2/{OTHER}/blobs/uploads/", params=query) for _ in range(4)]
    assert {answer.status for answer in await asyncio.gather(*mounts)} == {201}
    assert (await counted())[OTHER] == (1000, 0, 0)
    # Uploads: cancelled, finished, expired, and of a user who is deleted.
    bob = basic("bob", await make_user(client, "bob"))
    await give_role(client, "team/", "user:bob", "writer")
    async with registry.client(anonymous=True) as somebody:
        somebody.headers.update(bob)
        await start_upload(somebody, OTHER)
        await start_upload(somebody, APP)
    cancelled, finished, _ = [await start_upload(client, OTHER) for _ in range(3)]
    assert [uploads for _, _, uploads in (await counted()).values()] == [1, 4]
    assert (await ask(client, "DELETE", cancelled)).status == 204
    answer = await ask(client, "PUT", finished, params={"digest": digest_of(two)}, data=two)
    assert answer.status == 201
    await api(client, "DELETE", "/users/bob", status=204)
    assert await counted() == {APP: (1300 + image, 2, 0), OTHER: (1300, 0, 1)}
    services = registry.services
    assert services is not None
    async with services.database.write() as connection:
        await connection.execute(update(upload_sessions).values(expires_at=db_time(-timedelta(days=1))))
    assert await uploads.sweep_expired(services.database, services.blobs) == 1
    # What goes: a tag, a blob, an image with its tags; and comes back with it.
    assert (await ask(client, "DELETE", f"/v2/{APP}/manifests/b")).status == 202
    assert (await ask(client, "DELETE", f"/v2/{OTHER}/blobs/{digest_of(two)}")).status == 202
    assert await counted() == {APP: (1300 + image, 1, 0), OTHER: (1000, 0, 0)}
    assert (await ask(client, "DELETE", f"/v2/{APP}/manifests/{first}")).status == 202
    assert (await counted())[APP][1] == 0
    restored = await ask(client, "POST", "/api/v1/repositories/team%2Fapp/tags/a/restore", json={})
    assert restored.status == 200, restored.body
    assert (await counted())[APP] == (1300 + image, 1, 0)
    # Names change, and with a repository all goes.
    await api(client, "POST", "/namespaces/team/rename", json={"name": "crew"})
    assert await counted() == {"crew/app": (1300 + image, 1, 0), "crew/other": (1000, 0, 0)}
    shown = await api(client, "GET", "/repositories/crew%2Fapp")
    assert (shown["used_bytes"], shown["tags"]) == (1300 + image, 1)
    await start_upload(client, "crew/app")
    await api(client, "DELETE", "/repositories/crew%2Fapp", status=204)
    assert await counted() == {"crew/other": (1000, 0, 0)}


async def test_statements_about_several_repositories(registry: Registry, database_url: str) -> None:
    """As whoever tidies up by hand would write them."""
    services = registry.services
    assert services is not None
    async with registry.client() as client:
        for name in (APP, OTHER, "third"):
            await push_blob(client, name, b"z" * 10)
            await push_small(client, name, "a")
            await start_upload(client, name)
    before = await asyncio.to_thread(recounted, database_url)
    assert len(before) == 3
    # A size that was wrong, and is written anew.
    for table in (blobs, manifests):
        for more in (5, -5):
            async with services.database.write() as connection:
                await connection.execute(update(table).values(size=table.c.size + more))
            resized = await asyncio.to_thread(recounted, database_url)
            assert (resized == before) is (more < 0)
    gone: list[Any] = [tags, manifests, upload_sessions, blob_links]
    for table in gone:
        which = select(repositories.c.id).where(repositories.c.name != "third")
        async with services.database.write() as connection:
            await connection.execute(delete(table).where(table.c.repository_id.in_(which)))
        await asyncio.to_thread(recounted, database_url)
    assert await asyncio.to_thread(recounted, database_url) == {
        APP: (0, 0, 0),
        OTHER: (0, 0, 0),
        "third": before["third"],
    }
    # What was rolled back was never there.
    async with services.database.write() as connection:
        tried = await connection.begin_nested()
        links = (
            select(repositories.c.id, blobs.c.id, db_time())
            .join(blobs, true())
            .where(repositories.c.name == APP)
        )
        columns = ["repository_id", "blob_id", "created_at"]
        await connection.execute(insert(blob_links).from_select(columns, links, include_defaults=False))
        used = select(repository_usage.c.bytes).join(repositories).where(repositories.c.name == APP)
        assert (await connection.execute(used)).scalar_one() > 0
        await tried.rollback()
    assert (await asyncio.to_thread(recounted, database_url))[APP] == (0, 0, 0)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_nobody_waits_for_the_row(registry: Registry, database_url: str) -> None:
    """What somebody else has at the moment is counted beside it, and added later."""
    services = registry.services
    assert services is not None
    changes = select(func.count()).select_from(usage_changes)
    async with registry.client() as client, asyncio.timeout(60):
        await push_blob(client, "elsewhere", b"x" * 7)
        await push_blob(client, APP, b"y" * 10)
        for kept in (True, False):
            with suppress(_TakenBackError):
                async with services.database.write() as busy:
                    app = select(repositories.c.id).where(repositories.c.name == APP)
                    blob = select(blobs.c.id).where(blobs.c.size == 7)
                    number, seven = [(await busy.execute(query)).scalar_one() for query in (app, blob)]
                    if kept:
                        values = {"repository_id": number, "blob_id": seven, "created_at": db_time()}
                        await busy.execute(insert(blob_links).values(values))
                    else:
                        await busy.execute(delete(blob_links).where(blob_links.c.blob_id == seven))
                    await push_blob(client, APP, bytes([kept]) * 100)
                    await ask(client, "DELETE", f"/v2/{APP}/blobs/{digest_of(b'y' * 10)}")
                    shown = await api(client, "GET", "/repositories/team%2Fapp")
                    async with services.database.read() as connection:
                        assert (await connection.execute(changes)).scalar_one() > 0
                    if not kept:
                        raise _TakenBackError
            assert shown["used_bytes"] == (100 if kept else 207)
            counted = await asyncio.to_thread(recounted, database_url)
            assert counted[APP] == ((107 if kept else 207), 0, 0)
        await push_blob(client, APP, b"z")
        async with services.database.read() as connection:
            assert (await connection.execute(changes)).scalar_one() == 0
        assert (await asyncio.to_thread(recounted, database_url))[APP] == (208, 0, 0)


class _TakenBackError(Exception):
    """Ends a transaction that does not commit."""


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_uploads_of_one_repository_at_once(registry: Registry, database_url: str) -> None:
    """They wait for each other only for a moment, and none is lost."""
    async with registry.client() as client:
        contents = [bytes([number]) * 100 for number in range(30)]
        await asyncio.gather(*(push_blob(client, APP, content) for content in contents))
        await asyncio.gather(*(push_small(client, APP, f"t{number}") for number in range(10)))
    counted = await asyncio.to_thread(recounted, database_url)
    assert counted[APP][0] > 3000
    assert counted[APP][1:] == (10, 0)
