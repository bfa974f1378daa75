"""``seatrial storage copy``: a registry that serves moves to another store and loses nothing."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
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
from tests.kit.s3 import S3Server
from tests.kit.server import Registry, RegistryProcess
from tests.kit.sources import ROOT
from tests.kit.warm import run_seatrial, start_seatrial

NAME = "team/app"
BLOBS = 150
"""So many that a copy takes longer than it takes to see that it has begun."""


@dataclass(frozen=True, slots=True)
class Place:
    """A blob store: a folder, or a prefix in a bucket."""

    url: str
    folder: Path | None
    s3: S3Server | None

    def locators(self) -> list[str]:
        """Those of its finished blobs."""
        if self.folder is not None:
            return [path.name for path in self.folder.glob("blobs/*/*")]
        assert self.s3 is not None
        prefix = self.url.partition("?")[0].rpartition("/")[2]
        keys = [key.split("/") for key in self.s3.keys(prefix)]
        return [key[-1] for key in keys if key[0] == "blobs"]


class Moving:
    """A registry and the store that it moves to."""

    def __init__(self, data: Path, old: Place, new: Place, **settings: str) -> None:
        self.data, self.old, self.new, self.settings = data, old, new, settings
        self.server = RegistryProcess(data, storage_url=old.url, **settings)

    def restart_on_new(self) -> Registry:
        self.server.stop()
        self.server = RegistryProcess(self.data, storage_url=self.new.url, **self.settings)
        return self.server.start()

    def command(self, *more: str) -> tuple[str, ...]:
        return ("storage", "copy", "--to", self.new.url, "--data", str(self.data), "--json", *more)

    @property
    def environment(self) -> dict[str, str]:
        settings = {f"SEATRIAL_{name.upper()}": value for name, value in self.settings.items()}
        return os.environ | settings | {"SEATRIAL_STORAGE_URL": self.old.url}

    async def copy(self, *more: str, code: int = 0) -> Any:
        words = self.command(*more)
        done = await asyncio.to_thread(run_seatrial, *words, environment=self.environment, folder=ROOT)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) | {"stderr": done.stderr}


@pytest.fixture(params=["file to file"])
def moving(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Moving]:
    places, settings = [], {}
    for name, kind in zip(("old", "new"), request.param.split(" to "), strict=True):
        if kind == "file":
            folder = tmp_path / name
            places.append(Place(f"file://{folder}", folder, None))
        else:
            server: S3Server = request.getfixturevalue("s3")
            places.append(Place(server.url(), None, server))
            settings["storage_credentials_file"] = str(server.credentials)
    made = Moving(tmp_path / "data", *places, **settings)
    yield made
    made.server.stop()


def ways(*names: str) -> pytest.MarkDecorator:
    """Run the test on these ways from one kind of store to another."""
    return pytest.mark.parametrize("moving", names, indirect=True)


async def read(client: aiohttp.ClientSession, digest: str) -> bytes:
    async with client.get(f"/v2/{NAME}/blobs/{digest}") as response:
        assert response.status == 200, await response.text()
        return await response.read()


@ways("s3 to file")  # the other way is that of docs/growing.md
async def test_a_live_registry_moves(moving: Moving, tmp_path: Path) -> None:
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
        assert moving.new.locators() == []
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
    registry = moving.restart_on_new()
    if moving.old.folder is not None:
        moving.old.folder.rename(tmp_path / "away")
    async with registry.client() as client:
        assert await read(client, late) == b"late"
        for digest, content in image.blobs().items():
            if content != image.manifest:
                assert await read(client, digest) == content
        # An upload in progress is not copied: its client begins anew.
        async with client.patch(location, data=b"the rest") as refused:
            assert refused.status == 404
        await push_blob(client, NAME, b"half of it the rest")


async def test_what_is_pushed_meanwhile_is_copied_too(moving: Moving) -> None:
    registry = moving.server.start()
    assert moving.new.folder is not None
    store = FilesystemStore(moving.new.folder)
    async with registry.client() as client:
        for number in range(8):
            await push_blob(client, NAME, f"{number}".encode())
        # While somebody holds one of them in the new store, the copy waits for it.
        held = next(iter(moving.old.locators()))
        await store.start_upload(held)
        with (moving.new.folder / "uploads" / held).open("rb") as upload:
            fcntl.flock(upload, fcntl.LOCK_EX)
            copying = asyncio.create_task(moving.copy())
            while len(moving.new.locators()) < 7:
                assert not copying.done()
                await asyncio.sleep(0.02)
            for number in range(3):
                await push_blob(client, NAME, f"meanwhile {number}".encode())
        told = await copying
    await store.close()
    assert told["blobs"] == told["copied"] == 11
    assert sorted(moving.new.locators()) == sorted(moving.old.locators())


@ways("file to s3")
async def test_killed_it_goes_on_with_what_is_missing(moving: Moving) -> None:
    contents = {}
    registry = moving.server.start()
    async with registry.client() as client:
        for _ in range(BLOBS):
            content = os.urandom(20_000)
            contents[await push_blob(client, NAME, content)] = content
    words = moving.command("--parallel", "1")
    with open(os.devnull, "wb") as nowhere:
        process = start_seatrial(words, environment=moving.environment, output=nowhere.fileno(), folder=ROOT)
    deadline = time.monotonic() + 60
    while len(moving.new.locators()) < 3:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)
    process.kill()
    await asyncio.to_thread(process.wait, 60)
    there: list[str] = []
    async with asyncio.timeout(60):
        # The service may still do what it was asked last.
        while there != (there := moving.new.locators()):  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    assert 3 <= len(there) < BLOBS
    told = await moving.copy()
    assert told["copied"] == BLOBS - len(there)
    registry = moving.restart_on_new()
    async with registry.client() as client:
        for digest, content in contents.items():
            assert await read(client, digest) == content


async def test_a_begun_blob_goes_on_and_a_wrong_one_begins_anew(moving: Moving) -> None:
    registry = moving.server.start()
    async with registry.client() as client:
        for _ in range(3):
            await push_blob(client, NAME, os.urandom(100_000))
    assert moving.old.folder is not None
    assert moving.new.folder is not None
    blobs = list(moving.old.folder.glob("blobs/*/*"))
    store = FilesystemStore(moving.new.folder)
    begun = (blobs[0].read_bytes()[:60_000], b"wrong" * 10_000, blobs[2].read_bytes())
    for path, begin in zip(blobs, begun, strict=True):
        await store.start_upload(path.name)
        await store.append(path.name, source(begin), offset=0)
    await store.close()
    told = await moving.copy()
    assert (told["copied"], told["failed"]) == (3, {})
    # The rest of the first; the rest of the second, and then all of it; nothing of the third.
    assert told["copied_bytes"] == 40_000 + 50_000 + 100_000
    for path in blobs:
        assert (moving.new.folder / path.relative_to(moving.old.folder)).read_bytes() == path.read_bytes()


async def test_what_the_old_store_has_not_right_is_named(moving: Moving) -> None:
    registry = moving.server.start()
    async with registry.client() as client:
        good = await push_blob(client, NAME, b"good")
        for content in (b"rotten", b"short", b"gone"):
            await push_blob(client, NAME, content)
    assert moving.old.folder is not None
    assert moving.new.folder is not None
    for path in moving.old.folder.glob("blobs/*/*"):
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
    assert [path.read_bytes() for path in moving.new.folder.glob("blobs/*/*")] == [b"good"]
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
