"""``seatrial storage copy``: a registry that serves moves to another store and loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registry.main import run
from registry.oci.digest import digest_of
from registry.storage.filesystem import FilesystemStore
from tests.kit.blobstore_contract import source
from tests.kit.distribution import push_blob, push_image, start_upload
from tests.kit.images import file, make_image, make_layer
from tests.kit.server import Registry, RegistryProcess
from tests.kit.sources import ROOT

NAME = "team/app"


class Moving:
    """A registry on a folder, and the folder that it moves to."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.old, self.new = self.data / "blobs", folder / "new"
        self.server = RegistryProcess(self.data)

    def restart_on_new(self) -> Registry:
        self.server.stop()
        self.server = RegistryProcess(self.data, storage_url=f"file://{self.new}")
        return self.server.start()

    def command(self, *more: str) -> list[str]:
        to = ("--to", f"file://{self.new}", "--data", str(self.data), "--json")
        return [sys.executable, "-m", "registry.main", "storage", "copy", *to, *more]

    async def copy(self, *more: str, code: int = 0) -> Any:
        process = await asyncio.create_subprocess_exec(
            *self.command(*more), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await process.communicate()
        assert process.returncode == code, err
        return json.loads(out) | {"stderr": err.decode()}

    def files(self) -> list[Path]:
        return [path for path in (self.new / "blobs").glob("*/*") if path.is_file()]


@pytest.fixture
def moving(tmp_path: Path) -> Iterator[Moving]:
    made = Moving(tmp_path)
    yield made
    made.server.stop()


async def read(client: aiohttp.ClientSession, digest: str) -> bytes:
    async with client.get(f"/v2/{NAME}/blobs/{digest}") as response:
        assert response.status == 200, await response.text()
        return await response.read()


async def test_a_live_registry_moves(moving: Moving) -> None:
    image = make_image(make_layer(file("app", os.urandom(3 << 20))))
    registry = moving.server.start()
    async with registry.client() as client:
        await push_image(client, NAME, "1", image)
        sha512 = digest_of(b"another algorithm", "sha512")
        start = f"/v2/{NAME}/blobs/uploads/?digest-algorithm=sha512"
        async with client.post(start) as started:
            location = started.headers["Location"]
        async with client.put(location, params={"digest": str(sha512)}, data=b"another algorithm") as done:
            assert done.status == 201
        location = await start_upload(client, NAME)
        async with client.patch(location, data=b"half of it") as begun:
            assert begun.status == 202
        preview = await moving.copy("--dry-run")
        assert not moving.new.exists()
        told = await moving.copy()
        assert told["served"] is preview["served"] is True
        assert told["blobs"] == told["copied"] == preview["blobs"] == 3
        assert told["copied_bytes"] == told["bytes"] == preview["bytes"] > 3 << 20
        assert (told["uploads_open"], told["failed"]) == (1, {})
        # Pushed after the copy: it has to run once more.
        late = await push_blob(client, NAME, b"late")
    moving.server.stop()
    told = await moving.copy()
    assert (told["served"], told["copied"], told["copied_bytes"]) == (False, 1, 4)
    assert (await moving.copy())["copied"] == 0
    registry = moving.restart_on_new()
    shutil.move(moving.old, moving.old.parent / "away")
    async with registry.client() as client:
        assert await read(client, late) == b"late"
        for digest, content in image.blobs().items():
            if content != image.manifest:
                assert await read(client, digest) == content
        # An upload in progress is not copied: its client begins anew.
        async with client.patch(location, data=b"the rest") as refused:
            assert refused.status == 404
        await push_blob(client, NAME, b"half of it the rest")
    assert not any((moving.new / "uploads").iterdir())


async def test_what_is_pushed_meanwhile_is_copied_too(moving: Moving) -> None:
    registry = moving.server.start()
    async with registry.client() as client:
        for number in range(40):
            await push_blob(client, NAME, f"{number}".encode() * 1000)
        copying = asyncio.create_task(moving.copy("--parallel", "1"))
        pushed = 40
        while not copying.done():
            # Never later than the copy itself could see: one that is named before it ends.
            if moving.new.exists() and 0 < len(moving.files()) < 30 and pushed < 45:
                await push_blob(client, NAME, f"meanwhile {pushed}".encode())
                pushed += 1
            await asyncio.sleep(0.005)
        told = await copying
    assert told["blobs"] == told["copied"] == pushed == len(moving.files())
    assert pushed > 40


async def test_killed_it_goes_on_with_what_is_missing(moving: Moving) -> None:
    contents = {}
    registry = moving.server.start()
    async with registry.client() as client:
        for _ in range(60):
            content = os.urandom(100_000)
            contents[await push_blob(client, NAME, content)] = content
    with subprocess.Popen(moving.command("--parallel", "2"), cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not moving.new.exists() or len(moving.files()) < 5:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    there = {path.name for path in moving.files()}
    assert 5 <= len(there) < 60
    # Of one blob half arrived, of another something wrong: the first goes on, the second begins anew.
    missing = [path for path in moving.old.glob("blobs/*/*") if path.name not in there]
    for upload in (moving.new / "uploads").iterdir():
        upload.unlink()
    store = FilesystemStore(moving.new)
    for path, begin in zip(missing, (missing[0].read_bytes()[:60_000], b"wrong" * 10_000), strict=False):
        await store.start_upload(path.name)
        await store.append(path.name, source(begin), offset=0)
    await store.close()
    told = await moving.copy()
    assert told["copied"] == 60 - len(there)
    # The second is sent twice but for what was taken for its beginning.
    assert told["copied_bytes"] == 100_000 * (60 - len(there)) - 60_000 + 50_000
    registry = moving.restart_on_new()
    async with registry.client() as client:
        for digest, content in contents.items():
            assert await read(client, digest) == content


async def test_what_the_old_store_has_not_right_is_named(moving: Moving) -> None:
    registry = moving.server.start()
    async with registry.client() as client:
        good = await push_blob(client, NAME, b"good")
        for content in (b"rotten", b"short", b"gone"):
            await push_blob(client, NAME, content)
    for path in moving.old.glob("blobs/*/*"):
        path.chmod(0o600)
        match path.read_bytes():
            case b"rotten":
                path.write_bytes(b"Rotten")
            case b"short":
                path.write_bytes(b"sho")
            case b"gone":
                path.unlink()
    told = await moving.copy(code=2)
    reasons = told["failed"]
    assert f"has digest {digest_of(b'Rotten')}" in reasons[str(digest_of(b"rotten"))]
    assert "3 bytes of it, not 5" in reasons[str(digest_of(b"short"))]
    assert "not in the store" in reasons[str(digest_of(b"gone"))]
    assert good not in reasons
    assert [path.read_bytes() for path in moving.files()] == [b"good"]
    assert "3 blobs could not be copied" in told["stderr"]


@pytest.mark.parametrize(
    ("to", "code", "why"),
    [
        ("file://{data}/blobs/", 2, "the registry has this store already"),
        ("ftp://a/b", 64, "storage_url: must be"),
        ("file:///dev/null/x", 64, "storage_url: /dev/null/x cannot be used"),
    ],
)
def test_where_nothing_can_be_copied_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], to: str, code: int, why: str
) -> None:
    data = tmp_path / "data"
    assert run(["db", "upgrade", "--data", str(data)]) == 0
    assert run(["storage", "copy", "--to", to.format(data=data), "--data", str(data)]) == code
    assert why in capsys.readouterr().err
