"""The filesystem driver: the contract, and what only a folder can get wrong."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from registry.errors import StorageFullError, UnavailableError
from registry.oci.digest import digest_of
from registry.storage.filesystem import FilesystemStore
from registry.storage.store import BlobStore
from tests.kit.blobstore_contract import BlobStoreContract, pattern, read, source, stored

MakeFilesystem = Callable[..., FilesystemStore]


@pytest.fixture
async def make_store(tmp_path: Path) -> AsyncIterator[MakeFilesystem]:
    made: list[FilesystemStore] = []

    def make(root: Path = tmp_path / "store", *, reserve_bytes: int = 0) -> FilesystemStore:
        made.append(FilesystemStore(root, reserve_bytes=reserve_bytes))
        return made[-1]

    yield make
    for store in made:
        await store.close()


class TestContract(BlobStoreContract):
    pass


def test_it_is_a_blob_store(tmp_path: Path) -> None:
    """Checked by mypy; here only that nothing of the protocol is missing."""
    store: BlobStore = FilesystemStore(tmp_path)
    names = [name for name in vars(BlobStore) if not name.startswith("_")]
    assert len(names) == 10
    assert all(callable(getattr(store, name)) for name in names)


async def test_only_the_owner_may_look_and_nobody_may_write_a_blob(
    make_store: MakeFilesystem, tmp_path: Path
) -> None:
    locator = await stored(make_store(), b"content")
    path = tmp_path / "store" / "blobs" / locator[-2:] / locator
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    for folder in (path.parent, path.parent.parent, tmp_path / "store" / "uploads"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_what_root_writes_is_the_owners(make_store: MakeFilesystem, tmp_path: Path) -> None:
    """A command of root's leaves nothing in the server's folder that the server cannot read."""
    is_root = os.geteuid() == 0
    owner = (54321, 54322) if is_root else (os.geteuid(), os.getegid())
    store, root = make_store(), tmp_path / "store"
    for path in (root, root / "uploads", root / "blobs"):
        os.chown(path, *owner)
    await stored(store, b"content")
    begun = await store.start_upload()
    open_to_all, closed = tmp_path / "open", tmp_path / "closed"
    taken = {}
    for path, mode in ((open_to_all, 0o644), (closed, 0o600)):
        path.write_bytes(path.name.encode())
        path.chmod(mode)
        with path.open("rb") as file:
            locator = await store.start_upload()
            adopted = await store.adopt(locator, file.fileno(), digest_of(path.name.encode()))
            taken[path.name] = adopted if adopted != "cloned" else "linked"
    assert taken == {"open": "linked", "closed": None if is_root else "linked"}
    made = {path: (path.stat().st_uid, path.stat().st_gid) for path in root.rglob("*")}
    linked = {path for path in made if path.is_file() and path.stat().st_nlink > 1}
    assert {made[path] for path in made.keys() - linked} == {owner}
    assert made[root / "uploads" / begun] == owner


async def test_the_reserve_is_never_used(make_store: MakeFilesystem, tmp_path: Path) -> None:
    locator = await make_store().start_upload()
    store = make_store(reserve_bytes=1 << 60)
    with pytest.raises(StorageFullError) as full:
        await store.append(locator, source(b"content"), offset=0)
    assert full.value.detail == {"offset": 0}
    with pytest.raises(StorageFullError, match="push again when"):
        await store.start_upload()
    assert await store.free_bytes() == 0
    await make_store().append(locator, source(b"content"), offset=0)
    await make_store().finish(locator, digest_of(b"content"))


async def test_a_blob_cut_short_behind_our_back_is_noticed(
    make_store: MakeFilesystem, tmp_path: Path
) -> None:
    store = make_store()
    locator = await stored(store, pattern(600_000))
    path = tmp_path / "store" / "blobs" / locator[-2:] / locator
    async with store.open_blob(locator) as blob:
        path.chmod(0o600)
        os.truncate(path, 300_000)
        with pytest.raises(UnavailableError):
            [block async for block in blob.chunks()]


async def test_strange_files_in_the_folder_are_left_alone(make_store: MakeFilesystem, tmp_path: Path) -> None:
    store = make_store()
    (tmp_path / "store" / "uploads" / "lost+found").mkdir()
    (tmp_path / "store" / "blobs" / "notes.txt").write_text("mine")
    locator = await stored(store, b"content")
    assert await read(store, locator) == b"content"


async def test_a_failing_disk_is_unavailable_not_a_traceback(
    make_store: MakeFilesystem, tmp_path: Path
) -> None:
    store = make_store()
    (tmp_path / "store" / "uploads").rmdir()
    (tmp_path / "store" / "uploads").write_text("not a folder")
    with pytest.raises(UnavailableError):
        await store.start_upload()


KILLED = """
import asyncio, sys
from pathlib import Path
from registry.storage.filesystem import FilesystemStore

async def main(root, length):
    store = FilesystemStore(root, reserve_bytes=0)
    locator = await store.start_upload()
    async def source():
        sent = 0
        while sent < length:
            yield b"x" * 65536
            sent += 65536
        print(locator, flush=True)
        await asyncio.Event().wait()
    await store.append(locator, source(), offset=0)

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


async def test_bytes_of_a_killed_process_can_be_continued(make_store: MakeFilesystem, tmp_path: Path) -> None:
    root = tmp_path / "store"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), root, str(5 << 20)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        locator = writer.stdout.readline().strip()
        writer.kill()
    store = make_store()
    at = await store.upload_size(locator)
    assert at >= 4 << 20  # all but the last block, which was still in memory
    await store.append(locator, source(b"end"), offset=at)
    content = b"x" * at + b"end"
    assert await store.finish(locator, digest_of(content)) == len(content)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m,mode=0700", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


async def test_a_full_disk_keeps_the_offset_and_everything_else_working(
    make_store: Callable[..., FilesystemStore], small_disk: Path
) -> None:
    store = make_store(small_disk)
    locator = await store.start_upload()
    kept, little = await stored(store, pattern(2 << 20)), small_disk / "little"
    little.write_bytes(bytes(1 << 20))
    content = pattern(3 << 20)
    pieces = [content[at : at + 200_000] for at in range(0, len(content), 200_000)]
    with pytest.raises(StorageFullError) as full:
        await store.append(locator, source(*pieces), offset=0)
    at = await store.upload_size(locator)
    assert full.value.detail == {"offset": at}
    assert 0 < at < 2 << 20
    assert await read(store, kept) == pattern(2 << 20)
    little.unlink()
    with pytest.raises(StorageFullError, match="push again when"):
        await store.start_upload()
    await store.delete(kept)
    assert await store.append(locator, source(content[at:]), offset=at) == len(content)
    await store.finish(locator, digest_of(content))
    assert await read(store, locator) == content


async def test_a_body_of_tiny_pieces_is_written_as_it_comes(make_store: MakeFilesystem) -> None:
    content = pattern(5000)
    pieces = [content[at : at + 1] for at in range(len(content))]
    store = make_store()
    locator = await store.start_upload()
    assert await store.append(locator, source(*pieces), offset=0) == len(content)
    await store.finish(locator, digest_of(content))
    assert await read(store, locator) == content


async def test_a_write_that_the_system_cuts_short_leaves_whole_blocks(make_store: MakeFilesystem) -> None:
    store = make_store()
    locator = await store.start_upload()
    content = pattern(3 << 20)
    pieces = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, before[1]))
    try:
        with pytest.raises(UnavailableError) as failed:
            await store.append(locator, source(*pieces), offset=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    at = await store.upload_size(locator)
    assert failed.value.detail == {"offset": at}
    assert at == 1_100_000  # the first block; of the second half was written
    await store.append(locator, source(content[at:]), offset=at)
    await store.finish(locator, digest_of(content))
    assert await read(store, locator) == content
