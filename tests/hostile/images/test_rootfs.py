"""The mounted root file system: its bounds, its ids, and that nothing of it stays behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from registry.contract.limits import PrepareLimits
from sandbox.errors import SandboxError
from sandbox.ids import IdRange, leased_ids, mapped_ids
from sandbox.images.cache import Cache, Use
from sandbox.images.collect import CacheLimits, collect
from sandbox.images.pull import PulledImage, pull
from sandbox.images.rootfs import mounted_rootfs, sweep
from sandbox.images.snapshots import prepare as prepare_image
from sandbox.images.sourcefile import LayoutSource
from sandbox.images.writable import mount_writable
from sandbox.syscalls import unmount
from tests.hostile.images.conftest import AMD64, Mounted, Prepare, mounts_and_loops, processes
from tests.kit.images import Image, busybox_image, file, folder, make_image, make_layer, symlink, write_layout
from tests.kit.processes import children_of

PLENTY = CacheLimits(quota_bytes=1 << 60, reserve_bytes=0)
IMAGE = make_image(make_layer(folder("d"), file("d/f", b"x", uid=33, gid=33)), config={"Cmd": ["/x"]})


async def test_bytes_are_bounded(mounted: Mounted) -> None:
    async with mounted(IMAGE, written_bytes=4 << 20) as root:
        free = os.statvfs(root)
        assert free.f_bavail * free.f_frsize <= 4 << 20
        with pytest.raises(OSError, match="No space"):
            _fill(root / "big")
        assert 3 << 20 < (root / "big").stat().st_size <= 4 << 20


async def test_inodes_are_bounded(mounted: Mounted) -> None:
    async with mounted(IMAGE) as root:
        free = os.statvfs(root).f_favail
        assert free < 2000
        for number in range(free):
            (root / f"f{number}").touch()
        with pytest.raises(OSError, match="No space"):
            (root / "one more").touch()


def test_each_writable_layer_is_an_empty_file_system_that_is_sound(tmp_path: Path) -> None:
    for number in range(2):
        image, root = tmp_path / f"{number}.img", tmp_path / f"{number}"
        root.mkdir()
        mount_writable(image, str(root), 3 << 20)
        try:
            assert sorted(os.listdir(root)) == ["filler", "lost+found"]
            with pytest.raises(OSError, match="No space"):
                _fill(root / "big")
        finally:
            unmount(str(root))
        checked = subprocess.run(["e2fsck", "-fn", str(image)], capture_output=True, check=False)
        assert checked.returncode == 0, checked.stdout


async def test_options_and_names_in_the_mount_table(mounted: Mounted, tmp_path: Path) -> None:
    async with mounted(IMAGE) as root:
        lines = [line for line in mounts_and_loops(str(tmp_path)) if "rw.img" not in line]
        assert len(lines) == 1
        assert f" {root} rw,nosuid,nodev,relatime " in lines[0]
        assert "lowerdir=1,upperdir=rw/u,workdir=rw/w" in lines[0]


async def test_one_snapshot_for_every_range(prepare: Prepare, state: Path) -> None:
    prepared = await prepare(IMAGE)
    seen = []
    for number in range(2):
        (state / "runs" / str(number)).mkdir()
    with leased_ids() as one, leased_ids() as two:
        assert one.base != two.base
        async with (
            mounted_rootfs(prepared, state / "runs" / "0", one, written_bytes=1 << 20) as first,
            mounted_rootfs(prepared, state / "runs" / "1", two, written_bytes=1 << 20) as second,
        ):
            for root, ids in ((first.path, one), (second.path, two)):
                owner = (root / "d" / "f").stat()
                seen.append((owner.st_uid - ids.base, owner.st_gid - ids.base))
                assert root.stat().st_uid == ids.base
            (first.path / "d" / "f").write_text("changed")
            assert (second.path / "d" / "f").read_text() == "x"
    assert seen == [(33, 33), (33, 33)]
    assert (prepared.lower[0] / "d" / "f").read_text() == "x"
    assert (prepared.lower[0] / "d" / "f").stat().st_uid == 33


async def test_a_mapped_user_writes_where_the_image_lets_it(mounted: Mounted) -> None:
    image = make_image(make_layer(folder("d", 0o755, uid=33, gid=33), folder("r")), config={"Cmd": ["/x"]})
    async with mounted(image) as root:
        base = root.stat().st_uid
        script = "import os, sys; os.setgid({0}); os.setuid({0}); os.mkdir('d/mine'); os.mkdir('r/mine')"
        result = subprocess.run(
            ["python3", "-c", script.format(base + 33)], cwd=root, capture_output=True, text=True, check=False
        )
        assert "r/mine" in result.stderr
        assert (root / "d" / "mine").stat().st_uid == base + 33


async def test_an_image_of_links_is_mounted_without_following_one(mounted: Mounted, canary: Path) -> None:
    links = [symlink(name, str(canary)) for name in ("dev", "proc", "tmp", "etc", "rootfs", "lost+found")]
    async with mounted(make_image(make_layer(*links), config={"Cmd": ["/x"]})) as root:
        assert os.readlink(root / "dev") == str(canary)


async def test_an_error_inside_takes_it_down(mounted: Mounted, tmp_path: Path) -> None:
    async def run() -> None:
        async with mounted(IMAGE) as root:
            (root / "x").touch()
            raise RuntimeError("of the run")

    with pytest.raises(RuntimeError, match="of the run"):
        await run()
    assert mounts_and_loops(str(tmp_path)) == []


async def test_open_files_inside_do_not_keep_it(mounted: Mounted, tmp_path: Path) -> None:
    async with mounted(IMAGE) as root:
        held = (root / "d" / "f").open()
    assert [line for line in mounts_and_loops(str(tmp_path)) if "rw.img" not in line] == []
    held.close()


async def test_cancelled_while_mounting(prepare: Prepare, state: Path) -> None:
    prepared = await prepare(IMAGE)
    run_dir = state / "runs" / "one"
    run_dir.mkdir()

    async def run(ids: IdRange) -> None:
        async with mounted_rootfs(prepared, run_dir, ids, written_bytes=1 << 20):
            await asyncio.sleep(60)

    with leased_ids() as ids:
        for _ in range(3):
            task = asyncio.create_task(run(ids))
            await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert list(run_dir.iterdir()) == []


async def test_no_room_for_the_writable_layer(prepare: Prepare, state: Path) -> None:
    prepared = await prepare(IMAGE)
    (state / "runs" / "one").mkdir()
    with leased_ids() as ids, pytest.raises(SandboxError) as caught:
        async with mounted_rootfs(prepared, state / "runs" / "one", ids, written_bytes=1 << 50):
            pass
    assert caught.value.reason == "worker-disk"
    assert caught.value.retryable
    assert list((state / "runs" / "one").iterdir()) == []


async def test_two_prepare_one_image_at_once(
    pulled: Callable[[Image], Awaitable[PulledImage]], use: Use
) -> None:
    image = await pulled(busybox_image())
    with use.cache.used() as one, use.cache.used() as two:
        both = await asyncio.gather(*(prepare_image(image, PrepareLimits(), by) for by in (use, one, two)))
    assert both[0].lower == both[1].lower == both[2].lower
    assert len(list(use.cache.snapshots.iterdir())) == 1


async def test_snapshots_are_closed_to_others(prepare: Prepare, state: Path) -> None:
    """They hold set-user-id files of the image's root, which on disk is the host's."""
    await prepare(make_image(make_layer(file("suid", b"x", 0o4755)), config={"Cmd": ["/x"]}))
    assert (state / "cache" / "snapshots").stat().st_mode & 0o777 == 0o700


async def test_a_snapshot_of_another_boot_is_made_anew(prepare: Prepare, use: Use) -> None:
    prepared = await prepare(IMAGE)
    meta = prepared.lower[0].parent / "meta.json"
    (prepared.lower[0] / "d" / "f").write_text("half written when the power went")
    meta.write_text(meta.read_text().replace('"boot_id": "', '"boot_id": "other'))
    use.close()
    again = await prepare(IMAGE)
    assert (again.lower[0] / "d" / "f").read_text() == "x"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    image, folder_ = tmp_path / "disk.img", tmp_path / "disk"
    folder_.mkdir()
    with image.open("wb") as file_:
        file_.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder_)], check=True)
    yield folder_
    subprocess.run(["umount", str(folder_)], check=True)


@pytest.mark.parametrize("compressible", [True, False])
async def test_the_workers_disk_is_full(compressible: bool, small_disk: Path, tmp_path: Path) -> None:
    """While the layer is unpacked, and already while it is pulled."""
    content = b"x" * (20 << 20) if compressible else os.urandom(12 << 20)
    image = make_image(make_layer(file("big", content)), config={"Cmd": ["/x"]})
    layout = write_layout(tmp_path / "layout", image)
    limits = PrepareLimits()
    with Cache(small_disk / "cache").used() as use, pytest.raises(SandboxError) as caught:
        await prepare_image(
            await pull(LayoutSource(layout), "", platform=AMD64, use=use, limits=limits), limits, use
        )
    assert caught.value.reason == "worker-disk"
    assert caught.value.retryable
    assert not list(small_disk.glob("**/*.tmp"))


async def test_a_reserve_of_the_disk_is_left_while_a_layer_is_unpacked(
    small_disk: Path, tmp_path: Path
) -> None:
    """A megabyte that unpacks to gigabytes must not take the disk from the runs of others."""
    members = [file(f"part{number}", b"x" * (1 << 20)) for number in range(24)]
    image = make_image(make_layer(*members), config={"Cmd": ["/x"]})
    layout = write_layout(tmp_path / "layout", image)
    limits = PrepareLimits()
    with Cache(small_disk / "cache").used() as use:
        pulled = await pull(LayoutSource(layout), "", platform=AMD64, use=use, limits=limits)
        disk = os.statvfs(small_disk)
        free = disk.f_bavail * disk.f_frsize
        with pytest.raises(SandboxError, match="more disk than the worker has to spare") as caught:
            await prepare_image(pulled, limits, use, reserve_bytes=free - (1 << 19))
        assert (caught.value.reason, caught.value.retryable) == ("worker-disk", True)
    assert not list(small_disk.glob("**/*.tmp"))


async def test_files_without_a_byte_are_kept_to_the_disk_as_well(small_disk: Path, tmp_path: Path) -> None:
    """They count nothing in the size of a cache, and a disk of so many megabytes has 2,048 of them."""
    limits = PrepareLimits()

    async def prepared(name: str, count: int) -> Path:
        members = [file(f"{name}{number}", b"") for number in range(count)]
        layout = write_layout(tmp_path / name, make_image(make_layer(*members), config={"Cmd": ["/x"]}))
        with Cache(small_disk / "cache").used() as use:
            image = await pull(LayoutSource(layout), "", platform=AMD64, use=use, limits=limits)
            return (await prepare_image(image, limits, use)).lower[0]

    first, second = await prepared("a", 1000), await prepared("b", 880)
    collect(Cache(small_disk / "cache"), PLENTY)
    assert (first.exists(), second.exists()) == (False, True)
    with pytest.raises(SandboxError, match="more files than the worker's disk has to spare") as caught:
        await prepared("c", 1100)
    assert (caught.value.reason, caught.value.retryable) == ("worker-disk", True)
    assert not list(small_disk.glob("**/*.tmp"))
    assert os.statvfs(small_disk).f_favail > 1000


async def test_a_file_system_that_cannot_map_ids(tmp_path: Path) -> None:
    for name in ("lower", "upper", "work", "state"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    state = tmp_path / "state"
    subprocess.run(["mount", "-t", "overlay", "none", "-o", options, str(state)], check=True)
    try:
        layout = write_layout(tmp_path / "layout", IMAGE)
        with Cache(state / "cache").used() as use:
            image = await pull(LayoutSource(layout), "", platform=AMD64, use=use, limits=PrepareLimits())
            with pytest.raises(SandboxError, match="file system cannot map ids") as caught:
                await prepare_image(image, PrepareLimits(), use)
        assert caught.value.reason == "isolation-missing"
    finally:
        subprocess.run(["umount", str(state)], check=True)


CRASH = """
import asyncio, os, sys
sys.path.insert(0, {root!r})
from contextlib import ExitStack
from pathlib import Path
from registry.contract.limits import PrepareLimits
from registry.oci.platform import Platform
from sandbox.ids import leased_ids
from sandbox.images.pull import pull
from sandbox.images.rootfs import mounted_rootfs
from sandbox.images.cache import Cache
from sandbox.images.snapshots import prepare
from sandbox.images.sourcefile import LayoutSource

async def main(layout, state, stack):
    limits = PrepareLimits()
    platform = Platform("linux", "amd64")
    use = stack.enter_context(Cache(state / "cache").used())
    image = await pull(LayoutSource(layout), "", platform=platform, use=use, limits=limits)
    print("pulled", flush=True)
    os.nice(19)  # who watches is to see it at work, however busy the machine is
    prepared = await prepare(image, limits, use)
    run_dir = state / "runs" / "crashed"
    run_dir.mkdir()
    with leased_ids() as ids:
        async with mounted_rootfs(prepared, run_dir, ids, written_bytes=1 << 20) as root:
            (root.path / "written").write_text("x")
            print("mounted", flush=True)
            await asyncio.sleep(60)

with ExitStack() as stack:
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), stack))
"""


async def test_killed_while_a_run_is_mounted(state: Path, tmp_path: Path) -> None:
    process = await _crashing_worker(IMAGE, state, tmp_path)
    assert await process.stdout.readline() == b"pulled\n"  # type: ignore[union-attr]
    assert await process.stdout.readline() == b"mounted\n"  # type: ignore[union-attr]
    assert sweep(state) == []
    assert (state / "runs" / "crashed" / "rootfs" / "written").exists()
    process.kill()
    await process.wait()
    assert mounts_and_loops(str(tmp_path)) != []
    # Of a run that was killed before it held its folder, or after.
    (state / "runs" / "early" / "bundle").mkdir(parents=True)
    done = sweep(state)
    assert [line.split(" ")[0] for line in done] == ["unmounted", "removed", "removed"]
    assert list((state / "runs").iterdir()) == []


def test_a_cache_of_an_earlier_version_goes_and_nothing_else(tmp_path: Path) -> None:
    for name in ("runs", "blobs/sha256", "snapshots"):
        (tmp_path / name).mkdir(parents=True)
    assert sweep(tmp_path) == []
    assert (tmp_path / "blobs" / "sha256").exists()
    (tmp_path / "locks").mkdir()
    assert len(sweep(tmp_path)) == 3
    left = [name for name in ("runs", "snapshots", "blobs", "locks") if (tmp_path / name).exists()]
    assert left == ["runs"]


async def test_killed_while_a_layer_is_unpacked(state: Path, tmp_path: Path, prepare: Prepare) -> None:
    slow = make_layer(*(file(f"f{n}", b"x" * 5000) for n in range(15_000)), compression="none")
    image = make_image(slow, config={"Cmd": ["/x"]})
    process = await _crashing_worker(image, state, tmp_path)
    assert await process.stdout.readline() == b"pulled\n"  # type: ignore[union-attr]
    cache = Cache(state / "cache")
    await _until(lambda: any(cache.snapshots.glob("*.tmp/fs/f1")))
    assert collect(cache, PLENTY).left_over == ()
    process.kill()
    await process.wait()
    await _until(lambda: not processes(str(tmp_path)))
    assert len(list(cache.snapshots.glob("*.tmp"))) == 1
    assert len(collect(cache, PLENTY).left_over) == 1
    assert list(cache.snapshots.iterdir()) == []
    assert (await prepare(image)).counts[0].files == 15_000


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as out:
        for _ in range(1000):
            out.write(b"x" * 4096 * 4)


async def test_cancelled_while_a_layer_is_unpacked(
    pulled: Callable[[Image], Awaitable[PulledImage]], use: Use, tmp_path: Path
) -> None:
    slow = make_layer(*(file(f"f{n}", b"x" * 5000) for n in range(15_000)), compression="none")
    image = await pulled(make_image(slow, config={"Cmd": ["/x"]}))
    there = children_of(os.getpid())

    def begun() -> bool:
        """Whether the child that unpacks is there; on a busy machine it comes after whoever watches it."""
        made = [pid for pid in children_of(os.getpid()) if pid not in there]
        for pid in made:
            os.setpriority(os.PRIO_PROCESS, pid, 19)
        return bool(made)

    task = asyncio.create_task(prepare_image(image, PrepareLimits(), use))
    await _until(begun)
    await _until(lambda: any(use.cache.snapshots.glob("*.tmp/fs/f1")))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(use.cache.snapshots.iterdir()) == []
    await _until(lambda: not processes(str(tmp_path)))


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  (another process makes it true)
            await asyncio.sleep(0.01)


async def _crashing_worker(image: Image, state: Path, tmp_path: Path) -> asyncio.subprocess.Process:
    root = Path(__file__).resolve().parents[3]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CRASH.format(root=str(root)),
        str(write_layout(tmp_path / "crash-layout", image)),
        str(state),
        stdout=asyncio.subprocess.PIPE,
    )


def test_ids_of_the_host() -> None:
    assert mapped_ids() == 2**32 - 1


def test_a_table_of_ids(tmp_path: Path) -> None:
    (tmp_path / "uid_map").write_text("         0       1000          1\n         1     100000      65536\n")
    (tmp_path / "gid_map").write_text("         1     100000      65536\n         0       1000          1\n")
    assert mapped_ids(tmp_path) == 65537
    (tmp_path / "gid_map").write_text("         0       1000          1\n")
    assert mapped_ids(tmp_path) == 1


def test_a_range_is_given_back(tmp_path: Path) -> None:
    with leased_ids(tmp_path) as first, leased_ids(tmp_path) as second:
        assert second.base == first.base + 65536
    with leased_ids(tmp_path) as again:
        assert again == first
