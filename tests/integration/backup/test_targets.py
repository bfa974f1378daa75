"""Where backups are kept: what a folder and a bucket promise alike, and a backup in a bucket."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from registry.errors import ConflictError, NotFoundError, UnavailableError
from registry.storage import s3target
from registry.storage.backuptarget import BackupTarget, FolderTarget
from registry.storage.s3target import open_s3_target
from tests.integration.backup.conftest import Places
from tests.integration.backup.test_backups import empty
from tests.kit.blobstore_contract import source
from tests.kit.distribution import push_blob
from tests.kit.s3 import S3Server

NAME = "team/app"


@pytest.fixture(params=["folder", "s3"])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BackupTarget]:
    """An empty one, of each kind."""
    made: BackupTarget
    if request.param == "folder":
        made = FolderTarget(tmp_path / "target")
    else:
        server: S3Server = request.getfixturevalue("s3")
        made = await open_s3_target(server.url(), credentials_file=server.credentials)
    yield made
    await made.close()


async def read(target: BackupTarget, name: str) -> bytes:
    async with target.open(name) as there:
        content = b"".join([chunk async for chunk in there.chunks()])
        assert there.size == len(content)
        return content


async def test_what_is_put_is_there_whole_or_not_at_all(
    target: BackupTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3target, "_PART_BYTES", 5 << 20)
    large = os.urandom((11 << 20) + 1)
    async with target.alone():
        assert await target.put("a/b/one", source(b"some ", b"bytes")) == 10
        assert await target.put("a/none", source(b"")) == 0
        pieces = [large[start : start + (1 << 20)] for start in range(0, len(large), 1 << 20)]
        assert await target.put("a/large", source(*pieces)) == len(large)
        assert await read(target, "a/large") == large
        assert await read(target, "a/b/one") == b"some bytes"
        assert await target.sizes("a") == {"none": 0, "large": len(large)}
        assert await target.sizes("a/b") == {"one": 10}
        assert await target.sizes("none") == {}
        # Again, with other bytes; and what breaks off leaves what was there.
        await target.put("a/b/one", source(b"others"))

        async def broken() -> AsyncIterator[bytes]:
            for piece in pieces[:6]:
                yield piece
            raise UnavailableError("it broke off")

        for name in ("a/b/one", "a/b/two"):
            with pytest.raises(UnavailableError, match="it broke off"):
                await target.put(name, broken())
        assert await target.sizes("a/b") == {"one": 6}
        for _ in range(2):
            await target.delete("a/large")
        with pytest.raises(NotFoundError):
            await read(target, "a/large")


async def test_one_writes_at_a_time(
    target: BackupTarget, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with target.alone():
        with pytest.raises(ConflictError, match="another command writes"):
            async with target.alone():
                raise AssertionError
    async with target.alone():
        await target.put("a", source(b"a"))
    if isinstance(target, FolderTarget):
        return
    # Who was given up, since nothing was heard of him, writes no more.
    monkeypatch.setattr(s3target, "_RENEW_SECONDS", 0.05)
    async with target.alone():
        monkeypatch.setattr(s3target, "STALE", timedelta(0))
        server: S3Server = request.getfixturevalue("s3")
        url = f"s3://{server.bucket()}/{target._location.prefix}?endpoint_url={server.endpoint_url}"  # type: ignore[attr-defined]
        other = await open_s3_target(f"{url}&addressing=path", credentials_file=server.credentials)
        async with other.alone():
            with pytest.raises(ConflictError, match="another command has begun to write"):
                await put_again_and_again(target)
            await other.put("a", source(b"c"))
            with pytest.raises(ConflictError, match="another command has begun"):
                await target.delete("a")
        await other.close()
    assert await read(target, "a") == b"c"


async def put_again_and_again(target: BackupTarget) -> None:
    async with asyncio.timeout(60):
        while True:
            await target.put("a", source(b"b"))
            await asyncio.sleep(0.05)


async def test_backups_in_a_bucket(places: Places, s3: S3Server, tmp_path: Path) -> None:
    place = places.make("registry", "sqlite+folder", schema=True)
    kept, credentials = s3.url(), ("--credentials", str(s3.credentials))
    large = os.urandom(17 << 20)
    async with place.open() as port:
        first = await push_blob(port.admin, NAME, large)
        one = await place.run("create", kept, *credentials)
        await push_blob(port.admin, NAME, b"new")
        two = await place.run("create", kept, *credentials)
    assert (one["new_bytes"], two["new_bytes"], two["blobs"]) == (len(large), 3, 2)
    assert [listed["id"] for listed in await place.run("list", kept, *credentials)] == [two["id"], one["id"]]
    assert (await place.run("verify", kept, *credentials))["problems"] == {}
    pruned = await place.run("prune", kept, "--keep", "1", *credentials)
    assert (pruned["removed"], pruned["blobs"]) == ([one["id"]], 0)
    prefix = kept.partition("?")[0].rpartition("/")[2]
    assert [key for key in s3.keys(prefix) if one["id"] in key] == []
    assert s3.multipart_uploads(prefix) == []
    assert "lock" not in s3.keys(prefix)
    other = empty(place, tmp_path / "other")
    done = await other.run("restore", kept, *credentials)
    assert (done["id"], done["blobs"]) == (two["id"], 2)
    shutil.copyfile(place.data / "admin.token", other.data / "admin.token")
    async with other.open() as port, port.admin.get(f"/v2/{NAME}/blobs/{first}") as response:
        assert await response.read() == large
    wrong = await place.run("list", "s3://nowhere-at-all?" + kept.partition("?")[2], *credentials, code=64)
    assert "the target: bucket nowhere-at-all" in wrong["said"]
    missing = await place.run("list", kept, "--credentials", str(tmp_path / "none"), code=64)
    assert "--credentials" in missing["said"]
