"""What a run wrote, listed and exported, whatever it called its files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from sandbox.ids import IdRange, leased_ids
from sandbox.images.rootfs import mounted_rootfs
from sandbox.images.writes import LISTED_MAX, Upper, Writes, collect_writes
from sandbox.syscalls import file_system_ids
from tests.hostile.images.conftest import Mounted, Prepare
from tests.kit.images import Layer, file, folder, make_image, make_layer, symlink

Written = Callable[..., AbstractAsyncContextManager[Writes]]
BASE = make_layer(
    folder("etc"),
    file("etc/passwd", b"root\n"),
    file("etc/gone", b"x"),
    folder("old"),
    file("old/one", b"1"),
    folder("deep"),
    folder("deep/below"),
    file("deep/below/f", b"x"),
    symlink("lib", "/usr/lib"),
)
SECOND = make_layer(file("etc/.wh.gone"), file("old/two", b"2"), folder("usr"))
IMAGE = make_image(BASE, SECOND, config={"Cmd": ["/x"]})


@pytest.fixture
def written(prepare: Prepare, state: Path, tmp_path: Path) -> Written:
    """What ``act`` did to the root file system of ``IMAGE``, and the tar of it."""

    @asynccontextmanager
    async def get(
        act: Callable[[Path, IdRange], None], *, written_bytes: int = 1 << 22
    ) -> AsyncIterator[Writes]:
        prepared = await prepare(IMAGE)
        run_dir = state / "runs" / "one"
        run_dir.mkdir()
        with leased_ids() as ids:
            async with mounted_rootfs(prepared, run_dir, ids, written_bytes=written_bytes) as mounted:
                with file_system_ids(ids.base):
                    (mounted.path / "etc" / "hosts").write_text("ours")
                    (mounted.path / "ours").mkdir()
                await asyncio.sleep(0.02)
                (tmp_path / "started").touch()
                since_ns = (tmp_path / "started").stat().st_ctime_ns
                await asyncio.sleep(0.02)
                with file_system_ids(ids.base):
                    act(mounted.path, ids)
                upper = Upper(mounted.upper_fd, prepared.lower, ids.base, since_ns)
                with (tmp_path / "out.tar").open("xb") as archive:
                    yield collect_writes(upper, archive=archive)
        assert list(run_dir.iterdir()) == []

    return get


def _diff_id(tmp_path: Path) -> str:
    return f"sha256:{hashlib.sha256((tmp_path / 'out.tar').read_bytes()).hexdigest()}"


def brief(writes: Writes) -> dict[str, str]:
    """Path to change and kind."""
    return {
        one.path.decode("utf-8", "backslashreplace"): f"{one.change} {one.kind}"
        + ("" if one.left_out is None else f": {one.left_out}")
        for one in writes.entries
    }


async def test_what_was_added_changed_and_deleted(written: Written, tmp_path: Path, mounted: Mounted) -> None:
    def act(root: Path, ids: IdRange) -> None:
        (root / "etc/passwd").write_text("root\nmore\n")
        (root / "etc/gone").write_text("back")
        (root / "new").mkdir()
        (root / "new/file").write_bytes(b"12345")
        os.chown(root / "new/file", ids.base + 33, ids.base + 34)
        (root / "new/file").chmod(0o4750)
        os.link(root / "new/file", root / "new/link")
        (root / "lib").unlink()
        (root / "old/one").unlink()
        (root / "old/two").unlink()
        (root / "old").rmdir()
        (root / "old").mkdir()
        (root / "old/three").write_text("3")
        (root / "deep/below/f").rename(root / "ours/f")
        os.mkfifo(root / "fifo")
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(root / "s"))

    async with written(act) as writes:
        pass
    assert brief(writes) == {
        "/deep": "changed folder",
        "/deep/below": "changed folder",
        "/deep/below/f": "deleted None",
        "/etc": "changed folder",
        "/etc/gone": "added file",
        "/etc/passwd": "changed file",
        "/fifo": "added fifo",
        "/lib": "deleted None",
        "/new": "added folder",
        "/new/file": "added file",
        "/new/link": "added file",
        "/old": "replaced folder",
        "/old/three": "added file",
        # Made before the command ran, and written to by it.
        "/ours": "added folder",
        "/ours/f": "added file",
        "/s": "added socket: a layer cannot hold it",
    }
    assert (writes.count, writes.left_out) == (16, 1)
    by_path = {one.path: one for one in writes.entries}
    new = by_path[b"/new/file"]
    assert (new.size_bytes, new.mode, new.uid, new.gid) == (5, 0o4750, 33, 34)
    with tarfile.open(tmp_path / "out.tar") as tar:
        members = {one.name: one for one in tar.getmembers()}
    assert members["new/file"].uid == 33
    assert members["new/link"].linkname == "new/file"
    assert {"deep/below/.wh.f", ".wh.lib", "old/.wh..wh..opq"} <= set(members)
    assert not any("hosts" in name for name in members)
    # Put upon the image as a layer, it gives what the run saw at its end.
    layer = Layer(
        (tmp_path / "out.tar").read_bytes(), "application/vnd.oci.image.layer.v1.tar", _diff_id(tmp_path)
    )
    async with mounted(make_image(BASE, SECOND, layer, config={"Cmd": ["/x"]})) as root:
        assert sorted(one.name for one in (root / "old").iterdir()) == ["three"]
        assert (root / "etc/passwd").read_text() == "root\nmore\n"
        assert (root / "ours/f").read_text() == "x"
        assert not (root / "lib").is_symlink()
        assert not (root / "deep/below/f").exists()


async def test_names_and_trees_chosen_to_harm(written: Written, tmp_path: Path, canary: Path) -> None:
    def act(root: Path, _: IdRange) -> None:
        (root / "line\nbreak\x1b[2J").write_text("x")
        (root / os.fsdecode(b"\xff\xfe")).write_text("x")
        (root / ".wh.etc").write_text("a deletion of what was there?")
        (root / ".wh..wh..opq").write_text("")
        (root / "out").symlink_to(canary)
        with (root / "sparse").open("wb") as sparse:
            sparse.truncate(1 << 40)
        here = os.open(root, os.O_RDONLY)
        for _n in range(300):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)

    async with written(act) as writes:
        pass
    seen = brief(writes)
    assert seen["/line\nbreak\x1b[2J"] == seen["/\\xff\\xfe"] == "added file"
    assert "deleted" in seen["/.wh.etc"]
    assert "deleted" in seen["/.wh..wh..opq"]
    assert seen["/out"] == "added link"
    assert seen["/sparse"] == "added file: it is larger than what may be kept"
    assert [path for path, what in seen.items() if "too deep" in what] == ["/d" * 257]
    assert writes.left_out == 4
    assert (tmp_path / "out.tar").stat().st_size < 1 << 20
    with tarfile.open(tmp_path / "out.tar") as tar:
        names = {one.name for one in tar.getmembers()}
    assert {"line\nbreak\x1b[2J", os.fsdecode(b"\xff\xfe"), "out"} <= names
    assert not any(".wh." in name for name in names)


async def test_more_than_a_list_can_hold(written: Written) -> None:
    def act(root: Path, _: IdRange) -> None:
        (root / "many").mkdir()
        folder_fd = os.open(root / "many", os.O_RDONLY)
        for number in range(LISTED_MAX + 5):
            os.symlink("x", str(number), dir_fd=folder_fd)
        os.close(folder_fd)

    async with written(act, written_bytes=1 << 28) as writes:
        pass
    assert len(writes.entries) == LISTED_MAX
    assert writes.count == LISTED_MAX + 6
