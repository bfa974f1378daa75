"""Collections: what they take and what they leave, beside pushes, mounts and deletes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import BigInteger, Table, delete, func, literal, select, type_coerce, update
from structlog.testing import capture_logs

from registry.content import collecting, collectionpreview, collections
from registry.db.collections import collections as rows_of_collections
from registry.db.collections import dead_blobs
from registry.db.content import blob_links, blobs, manifest_contents
from registry.db.types import UtcTime, db_time
from registry.http.services import Services
from registry.main import run
from tests.kit.access import api
from tests.kit.collecting import collect
from tests.kit.distribution import (
    EMPTY_CONFIG,
    error_code,
    push_blob,
    put_manifest,
    small_index,
    small_manifest,
    start_upload,
)
from tests.kit.images import OCI_INDEX, digest_of
from tests.kit.plans import sent
from tests.kit.server import Registry, running_registry

NAME = "team/app"
OTHER = "team/other"
_END_SECONDS = 240
"""Only to say what hangs: how busy the machine is must not matter."""


@pytest.fixture
async def registry(tmp_path: Path, database_url: str) -> AsyncIterator[Registry]:
    """Nothing is kept for anybody: what is not named goes with the next collection."""
    given: dict[str, Any] = {"collection_grace_seconds": 0, "collection_every_seconds": 0}
    async with running_registry(tmp_path / "data", database_url, **given) as running:
        yield running


async def push(client: aiohttp.ClientSession, name: str, tag: str, layers: list[bytes]) -> str:
    """Push an image with these layers; returns its digest."""
    for content in (EMPTY_CONFIG, *layers):
        await push_blob(client, name, content)
    raw = small_manifest(layers)
    answer = await put_manifest(client, name, tag, raw)
    assert answer.status == 201, answer.body
    return digest_of(raw)


async def status(client: aiohttp.ClientSession, path: str) -> int:
    async with client.head(path) as response:
        return response.status


def stored(tmp_path: Path) -> int:
    """How many files of blobs and uploads there are."""
    return sum(len(files) for _, _, files in os.walk(tmp_path / "data/blobs"))


async def test_what_a_manifest_names_stays_and_the_rest_goes(
    client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    kept, lost = b"kept" * 100, b"lost" * 100
    await push(client, NAME, "v1", [kept])
    await push_blob(client, NAME, kept)
    gone = await push_blob(client, NAME, lost)
    before = stored(tmp_path)
    done = await collect(client)
    assert (done["links_removed"], done["blobs_removed"], done["freed_bytes"]) == (1, 1, len(lost))
    assert await status(client, f"/v2/{NAME}/blobs/{gone}") == 404
    assert await status(client, f"/v2/{NAME}/blobs/{digest_of(kept)}") == 200
    assert stored(tmp_path) == before - 1
    async with client.get(f"/v2/{NAME}/blobs/{digest_of(kept)}") as response:
        assert await response.read() == kept
    again = await collect(client)
    assert (again["links_condemned"], again["links_removed"], again["blobs_removed"]) == (0, 0, 0)
    assert await push_blob(client, NAME, lost) == gone
    assert await status(client, f"/v2/{NAME}/blobs/{gone}") == 200


async def test_what_a_deleted_image_was_made_of_goes_but_for_what_others_name(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    base, own = b"base" * 50, b"own" * 50
    first = await push(client, NAME, "v1", [base, own])
    await push(client, NAME, "v2", [base])
    await push(client, OTHER, "v1", [own])
    await collect(client)
    async with client.delete(f"/v2/{NAME}/manifests/{first}") as response:
        assert response.status == 202
    done = await collect(client)
    assert (done["links_removed"], done["blobs_removed"], done["manifests_removed"]) == (1, 0, 1)
    assert await status(client, f"/v2/{NAME}/blobs/{digest_of(own)}") == 404
    assert await status(client, f"/v2/{NAME}/blobs/{digest_of(base)}") == 200
    assert await status(client, f"/v2/{OTHER}/blobs/{digest_of(own)}") == 200
    async with client.delete(f"/api/v1/repositories/{OTHER.replace('/', '%2F')}") as response:
        assert response.status == 204
    done = await collect(client)
    assert (done["blobs_removed"], done["manifests_removed"]) == (1, 1)
    assert await count(registry, dead_blobs) == 0


async def test_indexes_and_what_they_list_stay_without_tags(client: aiohttp.ClientSession) -> None:
    layer = b"layer" * 20
    digest = await push(client, NAME, "child", [layer])
    async with client.delete(f"/v2/{NAME}/manifests/child") as response:
        assert response.status == 202
    listed = small_index(small_manifest([layer]))
    assert (await put_manifest(client, NAME, "all", listed, OCI_INDEX)).status == 201
    async with client.delete(f"/v2/{NAME}/manifests/all") as response:
        assert response.status == 202
    await collect(client)
    assert await status(client, f"/v2/{NAME}/manifests/{digest}") == 200
    assert await status(client, f"/v2/{NAME}/blobs/{digest_of(layer)}") == 200


async def test_who_asks_for_a_condemned_blob_may_still_push_what_names_it(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    """A client that is told that a layer is there does not send it, and pushes its manifest later."""
    layer, other = b"layer" * 20, b"other" * 20
    for content in (layer, other):
        await push_blob(client, NAME, content)
    database = services_of(registry).database
    grace = timedelta(hours=2)
    await pass_time(registry, grace / 2)
    assert (await collecting.review_links(database, grace=grace)).condemned == 2
    await pass_time(registry, grace / 4)
    assert await status(client, f"/v2/{NAME}/blobs/{digest_of(layer)}") == 200
    await pass_time(registry, grace / 4)
    assert (await collecting.review_links(database, grace=grace)).removed == 1
    assert await status(client, f"/v2/{NAME}/blobs/{digest_of(other)}") == 404
    await push_blob(client, NAME, EMPTY_CONFIG)
    assert (await put_manifest(client, NAME, "v1", small_manifest([layer]))).status == 201
    await pass_time(registry, grace)
    assert (await collecting.review_links(database, grace=grace)).removed == 0
    assert await status(client, f"/v2/{NAME}/blobs/{digest_of(layer)}") == 200


async def test_a_blob_that_is_pushed_or_mounted_again_is_taken_back(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    pushed, mounted = b"pushed" * 20, b"mounted" * 20
    for content in (pushed, mounted):
        await push_blob(client, NAME, content)
        await push_blob(client, OTHER, content)
    database = services_of(registry).database
    grace = timedelta(hours=2)
    await pass_time(registry, grace / 2)
    await collecting.review_links(database, grace=grace)
    await push_blob(client, NAME, pushed)
    query = f"mount={digest_of(mounted)}&from={OTHER}"
    async with client.post(f"/v2/{NAME}/blobs/uploads/?{query}") as response:
        assert response.status == 201
    await pass_time(registry, grace / 2)
    # Whatever was shown again a moment ago counts from then.
    async with database.write() as connection:
        await connection.execute(
            update(blob_links).where(blob_links.c.condemned.is_(False)).values(review_at=db_time())
        )
    assert (await collecting.review_links(database, grace=grace)).removed == 2
    for content in (pushed, mounted):
        assert await status(client, f"/v2/{NAME}/blobs/{digest_of(content)}") == 200
        assert await status(client, f"/v2/{OTHER}/blobs/{digest_of(content)}") == 404


async def test_the_grace_of_what_a_deleted_image_was_made_of_begins_with_that(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    """Also where no collection has looked since it was pushed, or the last one came before the manifest."""
    database = services_of(registry).database
    grace = timedelta(hours=2)
    early, late = b"early" * 20, b"late" * 20
    await push_blob(client, NAME, late)
    await pass_time(registry, grace / 2)
    assert (await collecting.review_links(database, grace=grace)).condemned == 1
    raw = small_manifest([early, late])
    for content in (EMPTY_CONFIG, early):
        await push_blob(client, NAME, content)
    assert (await put_manifest(client, NAME, "v1", raw)).status == 201
    await pass_time(registry, grace)
    async with client.delete(f"/v2/{NAME}/manifests/{digest_of(raw)}") as response:
        assert response.status == 202
    done = await collecting.review_links(database, grace=grace)
    assert (done.condemned, done.removed) == (0, 0)
    await pass_time(registry, grace / 2)
    done = await collecting.review_links(database, grace=grace)
    assert (done.condemned, done.removed) == (3, 0)
    await pass_time(registry, grace / 2)
    assert (await collecting.review_links(database, grace=grace)).removed == 3


async def test_the_preview_says_what_and_why(client: aiohttp.ClientSession, registry: Registry) -> None:
    await push(client, NAME, "v1", [b"kept"])
    gone = await push_blob(client, NAME, b"lost" * 10)
    # However much was pushed before that is named, and not looked at yet.
    async with client.get("/api/v1/collections/preview?limit=1") as response:
        assert response.status == 200
        (found,) = await response.json()
    assert (found["kind"], found["repository"], found["digest"]) == ("link", NAME, gone)
    assert found["why"] == "no manifest of the repository names it"
    assert await status(client, f"/v2/{NAME}/blobs/{gone}") == 200, "nothing was changed"
    done = await collect(client)
    assert done["blobs_removed"] == 1
    async with client.get("/api/v1/collections/preview") as response:
        assert await response.json() == []
    async with client.get("/api/v1/collections") as response:
        (listed,) = await response.json()
    assert listed == done
    async with client.get("/api/v1/audit?action=collection.ended") as response:
        (line,) = (await response.json())["items"]
    assert (line["target"], line["data"]["blobs_removed"]) == (str(done["id"]), 1)


async def test_the_preview_looks_on_where_many_are_needed(
    client: aiohttp.ClientSession, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No query looks at more rows than one of a collection, and the last of all is found still."""
    monkeypatch.setattr(collecting, "_LOOKED_AT", 2)
    await push(client, NAME, "v1", [b"a", b"b", b"c", b"d"])
    raw = small_manifest([b"a"])
    for content in (EMPTY_CONFIG, b"a", b"only here" * 9):
        await push_blob(client, OTHER, content)
    assert (await put_manifest(client, OTHER, "v1", raw)).status == 201
    database = services_of(registry).database
    async with client.delete(f"/v2/{OTHER}/manifests/{digest_of(raw)}") as response:
        assert response.status == 202
    lost = digest_of(b"only here" * 9)
    async with database.write() as connection:
        this = select(blobs.c.id).where(blobs.c.digest == lost).scalar_subquery()
        await connection.execute(delete(blob_links).where(blob_links.c.blob_id == this))
    found = {one["digest"]: one for one in await api(client, "GET", "/collections/preview")}
    assert (found[lost]["kind"], found[lost]["why"]) == ("blob", "no repository shows it")
    deleted = found[digest_of(raw)]
    assert (deleted["kind"], deleted["size_bytes"]) == ("manifest", len(raw))
    assert "so long it can be brought back" in deleted["why"]
    assert deleted["remove_after"] is not None


async def test_a_preview_ends_by_itself_and_the_next_one_looks_on(
    client: aiohttp.ClientSession,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """However many blobs there are, one request is a bounded number of statements."""
    monkeypatch.setattr(collecting, "_LOOKED_AT", 3)
    monkeypatch.setattr(collectionpreview, "PORTIONS_MAX", 2)
    counts = []
    for contents in ([b"a"], [b"b", b"c", b"d", b"e", b"f", b"g", b"h"]):
        await push(client, NAME, contents[0].decode(), contents)
        path = "/api/v1/collections/preview"
        async with client.get(path):
            pass
        with sent() as statements:
            async with client.get(path) as response:
                assert await response.json() == []
        counts.append((len(statements), "Link" in response.headers))
    # Links, two for each portion of blobs and of manifests, and dead bytes, for which there was no time.
    assert counts == [(6, False), (5, True)]
    raw = small_manifest([b"h"])
    assert (await put_manifest(client, NAME, "gone", raw)).status == 201
    async with client.delete(f"/v2/{NAME}/manifests/{digest_of(raw)}") as response:
        assert response.status == 202
    seen, answers = [], 0
    while path:
        async with client.get(path) as response:
            seen += [one["digest"] for one in await response.json()]
            path = response.headers.get("Link", "").partition("<")[2].partition(">")[0]
            answers += 1
    assert seen == [digest_of(raw)]
    assert answers > 2
    for bad in ("blob.x", "manifest", "x"):
        async with client.get(f"/api/v1/collections/preview?cursor={bad}") as response:
            assert response.status == 400
    token = tmp_path / "token"
    token.write_text(registry.token)
    given = ["gc", "--dry-run", "--json", "--server", registry.url, "--token-file", str(token)]
    capsys.readouterr()
    assert await asyncio.to_thread(run, given) == 0
    assert [one["digest"] for one in json.loads(capsys.readouterr().out)] == seen


async def test_bytes_that_no_row_names_go_and_no_upload_does(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    services = services_of(registry)
    location = await start_upload(client, NAME)
    async with client.patch(location, data=b"begun") as response:
        assert response.status == 202
        location = response.headers["Location"]
    stray = await services.blobs.start_upload()
    for folder, _, files in os.walk(tmp_path / "data/blobs"):
        for name in files:
            os.utime(Path(folder) / name, (0, 0))
    done = await collect(client)
    assert done["strays_removed"] == 1
    assert stray not in {name for _, _, files in os.walk(tmp_path / "data/blobs") for name in files}
    async with client.put(f"{location}?digest={digest_of(b'begun')}") as response:
        assert response.status == 201, await response.text()


async def test_far_more_bytes_without_rows_than_a_crash_leaves_go_only_when_somebody_asks(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    """So a registry that is started with another's store, or with a new database, does not empty it."""
    services = services_of(registry)
    await push(client, NAME, "v1", [b"named"])
    for _ in range(11):
        await services.blobs.start_upload()
    for folder, _, files in os.walk(tmp_path / "data/blobs"):
        for name in files:
            os.utime(Path(folder) / name, (0, 0))
    before = stored(tmp_path)
    await collections.begin_if_due(services.database, every=timedelta(hours=1))
    claimed = await collections.claim(services.database)
    assert claimed is not None
    await collections.carry_out(services.database, services.blobs, services.settings, claimed)
    (by_itself,) = await collections.list_collections(services.database, limit=10)
    assert (by_itself.phase, by_itself.strays_removed) == ("done", 0)
    assert stored(tmp_path) == before
    assert (await collect(client))["strays_removed"] == 11


async def test_another_replica_goes_on_where_one_was_killed(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    services = services_of(registry)
    await push_blob(client, NAME, b"lost" * 10)
    async with services.database.write() as connection:
        await connection.execute(
            rows_of_collections.insert().values(
                asked_by="admin", asked_at=db_time(), leased_until=db_time(timedelta(hours=1)), phase="links"
            )
        )
    assert await collections.claim(services.database) is None, "somebody is at it"
    async with client.post("/api/v1/collections") as response:
        begun = await response.json()
    assert len(await collections.list_collections(services.database, limit=10)) == 1, "there is one at a time"
    async with services.database.write() as connection:
        await connection.execute(
            rows_of_collections.update().values(leased_until=db_time(-timedelta(seconds=1)))
        )
    done = await collect(client)
    assert (done["id"], done["blobs_removed"]) == (begun["id"], 1)


async def test_it_collects_when_it_is_time(registry: Registry) -> None:
    database = services_of(registry).database
    every = timedelta(hours=1)
    await collections.begin_if_due(database, every=every)
    await collections.begin_if_due(database, every=every)
    (first,) = await collections.list_collections(database, limit=10)
    claimed = await collections.claim(database)
    assert claimed is not None
    assert await collections.claim(database) is None
    services = services_of(registry)
    await collections.carry_out(database, services.blobs, services.settings, claimed)
    await collections.begin_if_due(database, every=every)
    (done,) = await collections.list_collections(database, limit=10)
    assert (done.id, done.phase, done.asked_by) == (first.id, "done", "")
    async with database.write() as connection:
        await connection.execute(rows_of_collections.update().values(asked_at=db_time(-2 * every)))
    await collections.begin_if_due(database, every=every)
    assert len(await collections.list_collections(database, limit=10)) == 2


@pytest.mark.timeout(600)
async def test_pushes_of_what_is_being_collected_lose_nothing(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    """The same blobs are pushed, named and forgotten while collections go on without a pause."""
    services = services_of(registry)
    contents = [bytes([number]) * 100 for number in range(4)]
    ended = asyncio.Event()

    async def collect_on() -> None:
        while not ended.is_set():
            await collecting.review_links(services.database, grace=timedelta(0))
            await collecting.remove_blobs(services.database, "")
            await collecting.remove_manifests(services.database, "", grace=timedelta(0))
            await collecting.delete_bytes(services.database, services.blobs)

    async def push_and_delete(number: int) -> None:
        name = f"{NAME}{number}"
        for content in contents * 3:
            raw = small_manifest([content])
            for one in (EMPTY_CONFIG, content):
                await push_blob(client, name, one)
            answer = await put_manifest(client, name, "v1", raw)
            # With no time of grace a client may be late; it is told so, and nothing is half there.
            assert answer.status == 201 or error_code(answer.body) == "MANIFEST_BLOB_UNKNOWN", answer.body
            if answer.status == 201:
                async with client.get(f"/v2/{name}/manifests/v1") as response:
                    assert await response.read() == raw
                async with client.get(f"/v2/{name}/blobs/{digest_of(content)}") as response:
                    assert await response.read() == content
                async with client.delete(f"/v2/{name}/manifests/{digest_of(raw)}") as response:
                    assert response.status == 202

    async def push_all() -> None:
        try:
            await asyncio.gather(*(push_and_delete(number) for number in range(3)))
        finally:
            ended.set()

    async with asyncio.timeout(2 * _END_SECONDS):
        await asyncio.gather(collect_on(), push_all())
    done = await collect(client)
    assert done["phase"] == "done"
    for table in (blobs, blob_links, manifest_contents, dead_blobs):
        assert await count(registry, table) == 0
    await push(client, NAME, "v1", contents)
    for content in contents:
        async with client.get(f"/v2/{NAME}/blobs/{digest_of(content)}") as response:
            assert await response.read() == content


async def test_only_an_administrator_collects(nobody: aiohttp.ClientSession) -> None:
    async with nobody.post("/api/v1/collections") as response:
        assert response.status == 401


def services_of(registry: Registry) -> Services:
    assert registry.services is not None
    return registry.services


async def count(registry: Registry, table: Table) -> int:
    async with services_of(registry).database.read_once() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def pass_time(registry: Registry, by: timedelta) -> None:
    """Have all links be so much older."""
    older = literal(by // timedelta(microseconds=1), BigInteger)
    made, review = (type_coerce(blob_links.c[name], BigInteger) for name in ("created_at", "review_at"))
    async with services_of(registry).database.write() as connection:
        await connection.execute(
            update(blob_links).values(
                created_at=type_coerce(made - older, UtcTime), review_at=type_coerce(review - older, UtcTime)
            )
        )


async def test_what_nobody_expected_is_told_and_the_next_one_is_carried_out(
    client: aiohttp.ClientSession, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that ended would not be begun again before the process is."""
    database = services_of(registry).database
    monkeypatch.setattr(collections, "LEASE", timedelta(seconds=0.2))
    async with database.write() as connection:
        # No position of that phase: to go on from there is a fault of the registry.
        broken = {"asked_by": "admin", "asked_at": db_time(), "leased_until": db_time(), "phase": "blobs"}
        await connection.execute(rows_of_collections.insert().values(**broken, position="x"))
    with capture_logs() as logs:
        begun = await api(client, "POST", "/collections", status=202)
        async with asyncio.timeout(_END_SECONDS):
            while not logs:  # noqa: ASYNC110 - nobody tells of a line of the log
                await asyncio.sleep(0.02)
    (told,) = logs
    assert (told["log_level"], told["what"], told["exc_info"]) == ("error", "a collection", True)
    async with database.write() as connection:
        await connection.execute(rows_of_collections.update().values(position=""))
    done = await collect(client)
    assert (done["id"], done["phase"]) == (begun["id"], "done")
