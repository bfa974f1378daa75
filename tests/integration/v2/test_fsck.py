"""What ``seatrial fsck`` finds where database, store and attestations do not agree, and how it mends that."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import delete, insert, select, text, update

from registry.content import checking, fsck
from registry.content.checking import Look, Problem, Report
from registry.content.repairing import LayoutSource, StoreSource
from registry.db.collections import dead_blobs
from registry.db.content import (
    attestations,
    blob_links,
    blobs,
    edges,
    manifest_contents,
    manifests,
    tag_history,
    tags,
    upload_sessions,
)
from registry.db.multipart import multipart_uploads
from registry.db.types import db_time
from registry.db.usage import repository_usage
from registry.http.services import Services
from registry.layouts.layout import Layout
from registry.layouts.members import FolderMembers
from registry.storage.filesystem import FilesystemStore
from registry.storage.store import BlobStore
from registry.storage.threads import Threads
from tests.kit.access import api
from tests.kit.distribution import (
    EMPTY_CONFIG,
    push_blob,
    put_manifest,
    small_index,
    small_manifest,
    start_upload,
)
from tests.kit.images import OCI_INDEX, digest_of
from tests.kit.s3 import S3Server
from tests.kit.server import Registry, running_registry

NAME = "team/app"
LAYER = b"layer" * 500


def services_of(registry: Registry) -> Services:
    assert registry.services is not None
    return registry.services


async def look_at(
    registry: Registry,
    *,
    mend: bool = False,
    hashed: bool = False,
    layout: Layout | None = None,
    store: BlobStore | None = None,
) -> Report:
    services = services_of(registry)
    threads = Threads("fsck", 1)
    try:
        look = Look(services.database, services.blobs, threads, timedelta(0), hashed=hashed)
        if layout is not None:
            look.sources = [LayoutSource(layout, threads)]
        elif store is not None:
            look.sources = [StoreSource("a copy", store)]
        return await checking.carry_out(look, fsck.CHECKS, mend=mend, shown=100)
    finally:
        threads.close()


def told(report: Report) -> list[tuple[str, str]]:
    return [(one.check, one.what) for one in report.problems if not one.is_note]


async def require_mended(
    registry: Registry, *expected: tuple[str, str], hashed: bool = False
) -> list[Problem]:
    """A dry run finds these and changes nothing; mending mends them all, and then all is well."""
    for _ in range(2):
        found = await look_at(registry, hashed=hashed)
        assert sorted(told(found)) == sorted(expected)
        assert found.left == len(expected)
    mended = await look_at(registry, mend=True, hashed=hashed)
    assert sorted(told(mended)) == sorted(expected)
    assert (mended.left, all(one.mended for one in mended.problems)) == (0, True)
    assert told(await look_at(registry, hashed=hashed)) == []
    return mended.problems


async def push(client: aiohttp.ClientSession, tag: str = "v1", layer: bytes = LAYER, **members: Any) -> str:
    for content in (EMPTY_CONFIG, layer):
        await push_blob(client, NAME, content)
    raw = small_manifest([layer], **members)
    answer = await put_manifest(client, NAME, tag, raw)
    assert answer.status == 201, answer.body
    return digest_of(raw)


async def write(registry: Registry, *statements: Any) -> None:
    async with services_of(registry).database.write() as connection:
        for statement in statements:
            await connection.execute(statement)


async def loosely(registry: Registry, *statements: Any) -> None:
    """Write what no foreign key allows, as a damaged database may have it."""
    database = services_of(registry).database
    off = "PRAGMA foreign_keys = OFF" if database.is_sqlite else "SET session_replication_role = replica"
    on = "PRAGMA foreign_keys = ON" if database.is_sqlite else "SET session_replication_role = origin"
    async with database._engine.connect() as connection:
        raw = await connection.get_raw_connection()
        if database.is_sqlite:
            await raw.driver_connection.execute(off)  # type: ignore[union-attr]
        else:
            await connection.execute(text(off))
        for statement in statements:
            await connection.execute(statement)
        await connection.commit()
        if database.is_sqlite:
            await raw.driver_connection.execute(on)  # type: ignore[union-attr]
        else:
            await connection.execute(text(on))
            await connection.commit()


def file_of(tmp_path: Path, locator: str) -> Path:
    return tmp_path / "data/blobs/blobs" / locator[-2:] / locator


async def locator_of(registry: Registry, content: bytes) -> str:
    query = select(blobs.c.locator).where(blobs.c.digest == digest_of(content))
    async with services_of(registry).database.read_once() as connection:
        return str((await connection.execute(query)).scalar_one())


async def test_all_is_well_where_nothing_happened(client: aiohttp.ClientSession, registry: Registry) -> None:
    digest = await push(client)
    subject = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1}
    await push(client, "signature", subject=subject, annotations={"ä": "ö"}, artifactType="a/b")
    raw = small_index(small_manifest([LAYER]))
    assert (await put_manifest(client, NAME, "all", raw, OCI_INDEX)).status == 201
    await start_upload(client, NAME)
    async with client.delete(f"/v2/{NAME}/manifests/{digest}") as response:
        assert response.status == 202
    report = await look_at(registry, mend=True, hashed=True)
    assert told(report) == []
    # The index lists what was deleted, which it may.
    assert [(one.check, one.is_note) for one in report.problems] == [("manifests", True)]
    looked_at = {one.name: one.looked_at for one in report.checks}
    assert (looked_at["tags"], looked_at["manifests"], looked_at["blobs"]) == (2, 2, 2)
    assert (looked_at["uploads"] > 0, looked_at["strays"] >= 0) == (True, True)


async def test_tags_at_nothing_are_deleted_with_a_line_in_their_history(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    digest = await push(client)
    await push(client, "kept", b"other")
    nowhere = update(tags).where(tags.c.name == "v1").values(manifest_id=999_999)
    await loosely(registry, nowhere)
    await require_mended(registry, ("tags", "v1"))
    assert (await api(client, "GET", f"/repositories/{NAME.replace('/', '%2F')}/tags"))["items"][0][
        "name"
    ] == "kept"
    async with services_of(registry).database.read_once() as connection:
        rows = select(tag_history.c.action, tag_history.c.old_digest).where(tag_history.c.name == "v1")
        last = (await connection.execute(rows.order_by(tag_history.c.id.desc()).limit(1))).one()
    assert tuple(last) == ("delete", digest)


async def test_rows_of_a_manifest_are_written_anew_from_its_bytes(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    digest = await push(client)
    this = manifests.c.digest == digest
    await write(
        registry,
        update(manifests)
        .where(this)
        .values(media_type=OCI_INDEX, subject_digest="sha256:x", artifact_type=None),
        delete(edges).where(edges.c.kind == "layer"),
        update(edges).values(size=7),
    )
    (problem,) = await require_mended(registry, ("manifests", digest))
    assert "media_type, artifact_type, subject_digest, what it is made of" in problem.why
    async with services_of(registry).database.read_once() as connection:
        query = select(edges.c.digest).order_by(edges.c.position)
        assert list((await connection.execute(query)).scalars()) == [
            digest_of(EMPTY_CONFIG),
            digest_of(LAYER),
        ]
    async with client.get(f"/v2/{NAME}/manifests/v1") as response:
        assert await response.read() == small_manifest([LAYER])


async def test_what_a_manifest_is_made_of_and_is_not_there_is_told_and_left(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    digest = await push(client)
    async with client.delete(f"/v2/{NAME}/blobs/{digest_of(LAYER)}") as response:
        assert response.status == 202
    report = await look_at(registry, mend=True)
    assert (told(report), report.left) == ([("manifests", digest)], 1)
    assert digest_of(LAYER) in report.problems[0].why
    await push(client)
    assert told(await look_at(registry)) == []
    broken = update(manifest_contents).where(manifest_contents.c.digest == digest).values(raw=b"{}")
    await write(registry, broken)
    report = await look_at(registry, mend=True)
    assert [one.why for one in report.problems] == ["its bytes have another digest"]
    assert report.left == 1


async def test_links_and_dead_bytes(client: aiohttp.ClientSession, registry: Registry) -> None:
    await push(client)
    await push_blob(client, NAME, b"loose")
    locator = await locator_of(registry, LAYER)
    await write(
        registry,
        update(blob_links).values(review_at=None),
        insert(dead_blobs).values(locator=locator, size=1, died_at=db_time()),
    )
    await require_mended(registry, ("links", digest_of(b"loose")), ("dead", locator))
    assert await locator_of(registry, LAYER) == locator


async def test_what_repositories_are_said_to_hold(client: aiohttp.ClientSession, registry: Registry) -> None:
    await push(client)
    for content in (b"one", b"two"):
        await push_blob(client, "team/other", content)
    async with services_of(registry).database.read_once() as connection:
        query = select(repository_usage).order_by(repository_usage.c.repository_id)
        before = (await connection.execute(query)).all()
    this = repository_usage.c.repository_id == before[0].repository_id
    await write(
        registry,
        update(repository_usage).where(this).values(bytes=7, tags=9),
        delete(repository_usage).where(~this),
    )
    problems = await require_mended(registry, ("usage", "bytes, tags"), ("usage", "bytes, tags, uploads"))
    assert "it is said to hold 7 bytes, and holds" in "".join(one.why for one in problems)
    async with services_of(registry).database.read_once() as connection:
        assert (await connection.execute(query)).all() == before
    await push(client, "v2", b"more")
    assert told(await look_at(registry)) == []


async def test_uploads_of_which_the_store_has_nothing(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    kept, lost = await start_upload(client, NAME), await start_upload(client, NAME)
    lost_id = lost.rpartition("/")[2].partition("?")[0]
    async with services_of(registry).database.read_once() as connection:
        query = select(upload_sessions.c.locator).where(upload_sessions.c.id == lost_id)
        locator = (await connection.execute(query)).scalar_one()
    (tmp_path / "data/blobs/uploads" / locator).unlink()
    await require_mended(registry, ("uploads", lost_id))
    async with client.get(kept) as response:
        assert response.status == 204
    async with client.get(lost) as response:
        assert response.status == 404


async def test_attestations_without_what_says_so(client: aiohttp.ClientSession, registry: Registry) -> None:
    digest = await push(client)
    async with services_of(registry).database.read_once() as connection:
        repository_id = (await connection.execute(select(manifests.c.repository_id))).scalar_one()
    made = {
        "repository_id": repository_id,
        "digest": digest,
        "kind": "summary",
        "spec_digest": "",
        "found": "{}",
        "made_at": db_time(),
        "run_after": db_time(timedelta(days=1)),
        "signed_at": db_time(),
        "kid": "k",
    }
    await write(registry, insert(attestations).values(made))
    await require_mended(registry, ("attestations", digest))
    await write(registry, update(manifests).values(attestation_id=77))
    report = await look_at(registry, mend=True)
    assert (told(report), report.left) == ([("attestations", digest)], 1)
    await write(registry, update(manifests).values(attestation_id=None))
    await write(registry, update(attestations).values(digest=digest_of(b"gone")))
    assert told(await look_at(registry)) == [("attestations", digest_of(b"gone"))]


async def test_blobs_without_bytes_go_into_quarantine_and_stay_wrong(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    await push(client)
    path = file_of(tmp_path, await locator_of(registry, LAYER))
    kept = path.read_bytes()
    path.unlink()
    this = ("blobs", digest_of(LAYER))
    for _ in range(2):
        report = await look_at(registry)
        assert (told(report), report.left) == ([this], 1)
    async with client.head(f"/v2/{NAME}/blobs/{digest_of(LAYER)}") as response:
        assert response.status == 200, "nothing was changed"
    report = await look_at(registry, mend=True)
    assert (told(report), report.problems[0].mended, report.left) == ([this], True, 1)
    async with client.head(f"/v2/{NAME}/blobs/{digest_of(LAYER)}") as response:
        assert response.status == 404
    report = await look_at(registry)
    assert (told(report), report.problems[0].mend) == ([this], None)
    path.write_bytes(kept[::-1])
    assert told(await look_at(registry)) == [this]
    path.write_bytes(kept)
    await require_mended(registry, this, hashed=True)
    async with client.get(f"/v2/{NAME}/blobs/{digest_of(LAYER)}") as response:
        assert await response.read() == LAYER


async def test_a_store_that_is_not_there_puts_nothing_into_quarantine(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    for number in range(12):
        await push_blob(client, NAME, b"%d" % number)
    folder = tmp_path / "data/blobs/blobs"
    folder.rename(tmp_path / "unmounted")
    report = await look_at(registry, mend=True)
    assert (report.left, [one.mended for one in report.problems]) == (12, [False] * 12)
    assert "is it this registry's" in report.problems[0].why
    (tmp_path / "unmounted").rename(folder)
    assert told(await look_at(registry)) == []


def laid_out(folder: Path, *contents: bytes) -> Layout:
    """A layout that lists nothing and has these contents."""
    for content in contents:
        path = folder / "blobs" / digest_of(content).replace(":", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Layout(FolderMembers(folder), ())


async def test_what_is_damaged_is_taken_from_a_layout(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    """Blobs, what a repository has no more, and manifests; and of each nothing that is damaged there too."""
    raw, lost, twice = small_manifest([LAYER]), b"lost" * 100, b"twice" * 100
    digest = await push(client)
    await push(client, "lost", lost)
    await push(client, "twice", twice)
    for content in (LAYER, twice):
        path = file_of(tmp_path, await locator_of(registry, content))
        path.chmod(0o600)
        path.write_bytes(content[::-1])
    locator = await locator_of(registry, LAYER)
    async with client.delete(f"/v2/{NAME}/blobs/{digest_of(lost)}") as response:
        assert response.status == 202
    broken = update(manifest_contents).where(manifest_contents.c.digest == digest).values(raw=b"{}")
    await write(registry, broken)
    layout = laid_out(tmp_path / "layout", raw, LAYER, lost, twice)
    (tmp_path / "layout/blobs" / digest_of(twice).replace(":", "/")).write_bytes(twice[1:] + b"?")
    expected = [
        ("blobs", digest_of(LAYER)),
        ("blobs", digest_of(twice)),
        ("manifests", digest),
        ("manifests", digest_of(small_manifest([lost]))),
    ]
    report = await look_at(registry, hashed=True, layout=layout)
    assert sorted(told(report)) == sorted(expected)
    assert {one.mend for one in report.problems} == {"take it from the layout layout"}
    report = await look_at(registry, mend=True, hashed=True, layout=layout)
    assert (sorted(told(report)), report.left) == (sorted(expected), 1)
    (left,) = (one for one in report.problems if not one.mended)
    assert left.what == digest_of(twice)
    assert "not mended: the layout layout: the content has digest" in left.why
    for content in (LAYER, lost):
        async with client.get(f"/v2/{NAME}/blobs/{digest_of(content)}") as response:
            assert await response.read() == content
    async with client.get(f"/v2/{NAME}/manifests/v1") as response:
        assert await response.read() == raw
    async with client.head(f"/v2/{NAME}/blobs/{digest_of(twice)}") as response:
        assert response.status == 404, "wrong bytes are given to nobody"
    assert await locator_of(registry, LAYER) != locator
    (tmp_path / "layout/blobs" / digest_of(twice).replace(":", "/")).write_bytes(twice)
    assert (await look_at(registry, mend=True, layout=layout)).left == 0
    assert told(await look_at(registry, hashed=True)) == []


async def test_what_is_damaged_is_taken_from_a_copy_of_the_store(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    await push(client)
    shutil.copytree(tmp_path / "data/blobs", tmp_path / "copy")
    file_of(tmp_path, await locator_of(registry, LAYER)).unlink()
    copy = FilesystemStore(tmp_path / "copy")
    try:
        report = await look_at(registry, mend=True, store=copy)
    finally:
        await copy.close()
    assert (told(report), report.left) == ([("blobs", digest_of(LAYER))], 0)
    async with client.get(f"/v2/{NAME}/blobs/{digest_of(LAYER)}") as response:
        assert await response.read() == LAYER


async def test_bytes_of_the_same_length_are_only_seen_by_reading(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    await push(client)
    path = file_of(tmp_path, await locator_of(registry, LAYER))
    path.chmod(0o600)
    path.write_bytes(LAYER[::-1])
    assert told(await look_at(registry)) == []
    assert told(await look_at(registry, hashed=True)) == [("blobs", digest_of(LAYER))]
    path.write_bytes(LAYER[:-1])
    assert told(await look_at(registry)) == [("blobs", digest_of(LAYER))]


async def test_bytes_without_a_row_are_noted(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    await push(client)
    path = file_of(tmp_path, await locator_of(registry, LAYER))
    stray = path.with_name("0" * 30 + path.name[-2:])
    shutil.copy(path, stray)
    stray.touch()
    assert (await look_at(registry)).problems == [], "it may be an upload that is just beginning"
    os.utime(stray, (0, 0))
    (note,) = (await look_at(registry, mend=True)).problems
    assert (note.check, note.what, note.is_note) == ("strays", "1", True)
    assert "deletes 1 of them" in note.why
    assert stray.exists()


async def test_over_s3(s3: S3Server, make_postgres_url: Callable[[], str], tmp_path: Path) -> None:
    storage = {"storage_url": s3.url(), "storage_credentials_file": s3.credentials}
    async with (
        running_registry(tmp_path / "data", make_postgres_url(), **storage) as registry,
        registry.client() as client,
    ):
        await push(client)
        location = await start_upload(client, NAME)
        assert told(await look_at(registry, mend=True, hashed=True)) == []
        bucket = services_of(registry).blobs._bucket  # type: ignore[attr-defined]
        key = bucket.blob_key(await locator_of(registry, LAYER))
        bucket._client.put_object(Bucket=bucket._bucket, Key=key, Body=LAYER[:-1])
        await write(registry, delete(multipart_uploads))
        session = location.rpartition("/")[2].partition("?")[0]
        expected = [("blobs", digest_of(LAYER)), ("uploads", session)]
        assert sorted(told(await look_at(registry))) == expected
        report = await look_at(registry, mend=True)
        assert (sorted(told(report)), report.left) == (expected, 1)
        await push(client)
        assert told(await look_at(registry)) == []


@pytest.fixture
async def registry(tmp_path: Path, database_url: str) -> AsyncIterator[Registry]:
    given: dict[str, Any] = {"scrub_every_seconds": 0, "collection_every_seconds": 0}
    async with running_registry(tmp_path / "data", database_url, **given) as running:
        yield running
