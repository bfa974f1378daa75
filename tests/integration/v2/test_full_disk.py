"""A disk that others fill to the last byte: who signs in, pulls or deletes does not notice, pushes are
refused in words, and come back when there is room. And a process that may open no more files."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import re
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from tests.kit.access import api, ask, basic, bearer, registry_token
from tests.kit.collecting import collect
from tests.kit.distribution import (
    EMPTY_CONFIG,
    error_code,
    push_blob,
    push_small,
    put_manifest,
    small_manifest,
    start_upload,
)
from tests.kit.images import digest_of
from tests.kit.pagereading import sign_in, visitor
from tests.kit.server import ADMIN, RegistryProcess

MIB = 1 << 20
PAGES = ("/", "/r/a", "/r/a/-/tags/v1", "/r/a/-/history/v1", "/account")


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if request.param == "tmpfs":
        options = ["-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs"]
    else:
        image = tmp_path / "disk.img"
        with image.open("wb") as file:
            file.truncate(64 * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        options = ["-o", "loop", str(image)]
    done = subprocess.run(["mount", *options, folder], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no right to mount a small disk: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def process(small_disk: Path) -> Iterator[RegistryProcess]:
    """The server with all it has on the small disk, its log too."""
    made = RegistryProcess(small_disk / "data", reserve_bytes=str(4 * MIB))
    yield made
    made.stop()


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
async def test_a_disk_that_is_full_to_the_last_byte(
    process: RegistryProcess, small_disk: Path, *, restarted: bool
) -> None:
    layer, later = os.urandom(2 * MIB), os.urandom(3 * MIB)
    registry = process.start()
    async with registry.client() as client:
        await push_blob(client, "a", layer)
        await push_blob(client, "a", EMPTY_CONFIG)
        for tag, raw in (("v1", small_manifest([layer])), ("v2", small_manifest())):
            assert (await put_manifest(client, "a", tag, raw)).status == 201
        begun = await start_upload(client, "a")
        await at_rest(client)
    fill(small_disk / "others")
    if restarted:
        process.kill()
        registry = process.start()
    async with registry.client(anonymous=True) as nobody:
        signed_in = bearer(
            await registry_token(nobody, "repository:a:pull", headers=basic(ADMIN, registry.token))
        )
        assert (await ask(nobody, "GET", "/v2/a/manifests/v1", headers=signed_in)).status == 200
        pulled = await ask(nobody, "GET", f"/v2/a/blobs/{digest_of(layer)}", headers=signed_in)
        assert pulled.body == layer
    async with visitor(registry) as person:
        assert (await sign_in(person, registry)).status == 303
        for path in PAGES:
            assert (await ask(person, "GET", path)).status == 200, path
    async with registry.client() as client:
        await refused_in_words(client, "POST", "/v2/a/blobs/uploads/")
        await refused_in_words(client, "POST", f"/v2/b/blobs/uploads/?mount={digest_of(layer)}&from=a")
        await refused_in_words(client, "PATCH", begun, data=io.BytesIO(later))
        manifest = {"data": small_manifest(annotations={"a": "b"})}
        content_type = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
        await refused_in_words(client, "PUT", "/v2/a/manifests/v3", headers=content_type, **manifest)
        for path in ("manifests/v2", f"manifests/{digest_of(small_manifest())}", f"blobs/{digest_of(layer)}"):
            assert (await ask(client, "DELETE", f"/v2/a/{path}")).status == 202
            assert (await ask(client, "GET", f"/v2/a/{path}")).status == 404
        found = await collect(client)
        assert (found["blobs_removed"], found["freed_bytes"]) == (1, 2 * MIB), "which makes room"
        assert (await ask(client, "GET", "/v2/a/manifests/v1")).status == 200
        assert (await ask(client, "GET", "/v2/a/tags/list")).body == b'{"name":"a","tags":["v1"]}'
        assert (await ask(client, "GET", "/readyz")).status == 200
        await refused_in_words(client, "POST", "/v2/a/blobs/uploads/")
        (small_disk / "others").unlink()
        await push_blob(client, "a", later)
        await push_small(client, "b", "v1")
        async with client.put(begun, params={"digest": digest_of(layer)}, data=io.BytesIO(layer)) as response:
            assert response.status == 201, await response.text()
        assert (await ask(client, "GET", f"/v2/a/blobs/{digest_of(later)}")).body == later
    reserve = process.data / "seatrial.db.reserve"
    assert reserve.stat().st_blocks * 512 >= 4 * MIB, "and is ready for the next time"
    process.kill()
    with closing(sqlite3.connect(process.data / "seatrial.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not re.search(r'"status": 500|request failed', process.log.read_text(errors="replace"))


async def at_rest(client: aiohttp.ClientSession) -> None:
    """Wait until the registry has told of both tags. It does so by itself, and what it writes while others
    fill the disk gives them the reserve as well."""
    moved = 0
    async with asyncio.timeout(60):
        while moved < 2:
            told = await api(client, "GET", "/events?repository=a&kind=tag.moved")
            moved = len(told["items"])
            await asyncio.sleep(0.05)


async def refused_in_words(client: aiohttp.ClientSession, method: str, path: str, **options: object) -> None:
    answer = await ask(client, method, path, **options)
    assert (answer.status, error_code(answer.body)) == (507, "STORAGE_FULL"), (method, path, answer)
    assert b"push again when the registry's operator has made room" in answer.body


@pytest.mark.parametrize("small_disk", ["ext4"], indirect=True)
async def test_a_disk_that_turns_read_only(small_disk: Path, tmp_path: Path) -> None:
    """As the kernel does it to a file system that it has found damaged."""
    device = Path(subprocess.check_output(["findmnt", "-no", "SOURCE", small_disk], text=True).strip())
    fault = Path("/sys/fs/ext4") / device.name / "trigger_fs_error"
    if not os.access(fault, os.W_OK):
        pytest.skip(f"no right to write to {fault}")
    subprocess.run(["mount", "-o", "remount,errors=remount-ro", small_disk], check=True)
    process = RegistryProcess(small_disk / "data", reserve_bytes=str(4 * MIB))
    process.log = tmp_path / "server.log"
    layer = os.urandom(MIB)
    registry = process.start()
    try:
        async with registry.client() as client:
            await push_blob(client, "a", layer)
            await push_small(client, "a", "v1")
            location = await start_upload(client, "a")
            fault.write_text("1")
            for path in ("manifests/v1", f"blobs/{digest_of(layer)}", "tags/list"):
                assert (await ask(client, "GET", f"/v2/a/{path}")).status == 200, path
            # At once, so that the pool opens more connections: to files that can only be read now.
            digest = digest_of(layer)
            listed = [ask(client, "GET", f"/v2/a/referrers/{digest}?n={n}") for n in range(1, 16)]
            assert {answer.status for answer in await asyncio.gather(*listed)} == {200}
            deleted = [ask(client, "DELETE", f"/v2/a/blobs/{digest}") for _ in range(15)]
            assert {answer.status for answer in await asyncio.gather(*deleted)} == {503}
            for method, path in (
                ("DELETE", "/v2/a/manifests/v1"),
                ("POST", "/v2/a/blobs/uploads/"),
                ("PATCH", location),
            ):
                answer = await ask(client, method, path, data=io.BytesIO(layer))
                assert (answer.status, error_code(answer.body)) == (503, "UNAVAILABLE"), (method, answer)
            assert (await ask(client, "GET", "/v2/a/manifests/v1")).status == 200
    finally:
        process.stop()
    assert not re.search(r'"status": 500|request failed', process.log.read_text(errors="replace"))


async def test_a_log_without_room(small_disk: Path, tmp_path: Path) -> None:
    fill(small_disk / "others")
    process = RegistryProcess(tmp_path / "data")
    process.log = small_disk / "log"
    registry = process.start()
    try:
        async with registry.client() as client:
            await push_small(client, "a", "v1")
            assert (await ask(client, "GET", "/v2/a/manifests/v1")).status == 200
            assert (await ask(client, "GET", "/v2/a/manifests/v2")).status == 404
    finally:
        process.stop()


async def test_no_more_files_can_be_opened(tmp_path: Path) -> None:
    process = RegistryProcess(tmp_path / "data")
    layer = os.urandom(MIB)
    registry = process.start()
    try:
        async with registry.client() as client:
            await push_blob(client, "a", layer)
            taken = set(os.listdir(f"/proc/{process.pid}/fd"))
            for _ in range(20):
                # What the registry does by itself has files open for a moment.
                await asyncio.sleep(0.01)
                taken &= set(os.listdir(f"/proc/{process.pid}/fd"))
            # The limit is that of a number, and what was closed has left some free.
            opened = next(number for number in itertools.count() if str(number) not in taken)
            before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
            # The file of the blob can still be opened, but nothing besides: what is promised comes whole.
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (opened + 1, before[1]))
            answer = await ask(client, "GET", f"/v2/a/blobs/{digest_of(layer)}")
            assert answer.status == 503 or answer.body == layer, answer.status
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (opened, before[1]))
            for path in (f"/v2/a/blobs/{digest_of(layer)}", "/v2/a/tags/list"):
                answer = await ask(client, "GET", path)
                assert answer.status in (200, 503), answer
            answer = await ask(client, "POST", "/v2/a/blobs/uploads/")
            assert answer.status == 503, answer
            assert error_code(answer.body) == "UNAVAILABLE"
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
            assert (await ask(client, "GET", f"/v2/a/blobs/{digest_of(layer)}")).body == layer
            await push_small(client, "a", "v1")
    finally:
        process.stop()
    assert '"status": 500' not in process.log.read_text()


def fill(path: Path) -> None:
    """Write until not a byte more goes in."""
    with path.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            with pytest.raises(OSError, match="No space left"):  # noqa: PT012
                while file.write(bytes(size)):
                    pass
