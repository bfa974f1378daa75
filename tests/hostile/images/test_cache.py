"""The cache of a host: shared by workers, kept to its limits, never emptied of what is used."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from registry.contract.limits import PrepareLimits
from sandbox.errors import SandboxError
from sandbox.images.cache import Cache, Use
from sandbox.images.collect import CacheLimits, collect, list_entries, look
from sandbox.images.pull import PulledImage
from sandbox.images.snapshots import prepare as prepare_image
from tests.hostile.images.conftest import Prepare
from tests.kit.images import Image, file, make_image, make_layer

MIB = 1 << 20
PLENTY = CacheLimits(quota_bytes=1 << 60, reserve_bytes=0)
NOTHING = CacheLimits(quota_bytes=0, reserve_bytes=0)
ROOT = Path(__file__).resolve().parents[3]
Pulled = Callable[[Image], Awaitable[PulledImage]]


def image_of(*names: str) -> Image:
    """One layer of a MiB for each name."""
    layers = [make_layer(file(name, os.urandom(MIB))) for name in names]
    return make_image(*layers, config={"Cmd": ["/x"]})


async def test_what_a_run_uses_stays(prepare: Prepare, use: Use) -> None:
    await prepare(image_of("a", "b"))
    collected = collect(use.cache, NOTHING)
    # The blobs are used until they are unpacked; the config until the end.
    assert {one.kind for one in collected.removed} == {"blob"}
    assert [(one.kind, one.in_use) for one in list_entries(use.cache)][-2:] == [("snapshot", True)] * 2
    use.close()
    assert sum(one.kind == "snapshot" for one in collect(use.cache, NOTHING).removed) == 2
    assert list_entries(use.cache) == []
    assert list(use.cache.locks.glob("*.lock")) != []
    collect(use.cache, NOTHING)
    assert list(use.cache.locks.glob("*.lock")) == []


async def test_what_was_used_longest_ago_goes_first(prepare: Prepare, use: Use) -> None:
    images = [image_of(name) for name in "abc"]
    kept = []
    for image in images:
        kept.append((await prepare(image)).lower[0].parent)
        use.close()
    await prepare(images[0])
    use.close()
    size = look(use.cache, PLENTY).size_bytes
    # A blob and a snapshot of each, and their configs: two MiB must go, then four.
    collect(use.cache, CacheLimits(quota_bytes=size - 2 * MIB, reserve_bytes=0))
    assert [one.exists() for one in kept] == [True, False, True]
    collect(use.cache, CacheLimits(quota_bytes=size - 4 * MIB, reserve_bytes=0))
    assert [one.exists() for one in kept] == [True, False, False]


async def test_the_lowest_layer_goes_last(prepare: Prepare, use: Use) -> None:
    """Without it those above it are of no use."""
    lower = [path.parent for path in (await prepare(image_of("a", "b", "c"))).lower]
    use.close()
    order = [one.path for one in list_entries(use.cache) if one.kind == "snapshot"]
    assert order == [lower[2], lower[1], lower[0]]


async def test_room_is_what_is_free_and_what_can_be_collected(prepare: Prepare, use: Use) -> None:
    await prepare(image_of("a"))
    figures = look(use.cache, PLENTY)
    assert figures.blobs == 2
    assert figures.snapshots == 1
    assert 2 * MIB <= figures.size_bytes < 3 * MIB
    assert MIB <= figures.in_use_bytes < 2 * MIB
    assert figures.room_bytes == figures.free_bytes + figures.size_bytes - figures.in_use_bytes
    tight = CacheLimits(quota_bytes=8 * MIB, reserve_bytes=0)
    assert look(use.cache, tight).room_bytes == 8 * MIB - figures.in_use_bytes
    assert look(use.cache, tight).most_bytes == 8 * MIB
    full = CacheLimits(quota_bytes=1 << 60, reserve_bytes=1 << 60)
    assert (look(use.cache, full).room_bytes, look(use.cache, full).most_bytes) == (0, 0)


async def test_a_reserve_of_the_disk_is_kept(prepare: Prepare, use: Use) -> None:
    await prepare(image_of("a"))
    use.close()
    free = look(use.cache, PLENTY).free_bytes
    assert collect(use.cache, CacheLimits(quota_bytes=1 << 60, reserve_bytes=free // 2)).removed == ()
    beyond = CacheLimits(quota_bytes=1 << 60, reserve_bytes=1 << 60)
    assert len(collect(use.cache, beyond).removed) == 3


async def test_left_over_goes_first(prepare: Prepare, use: Use) -> None:
    kept = (await prepare(image_of("a"))).lower[0].parent
    old = (await prepare(image_of("b"))).lower[0].parent
    meta = old / "meta.json"
    meta.write_text(meta.read_text().replace('"boot_id": "', '"boot_id": "other'))
    use.close()
    half_removed = kept.with_name(f"{old.name}.0011.gone")
    (half_removed / "fs").mkdir(parents=True)
    unfinished = kept.with_name("sha256-00.tmp")
    (unfinished / "fs").mkdir(parents=True)
    blobs = use.cache.blobs / "sha256"
    for name, age in (("11.aa.tmp", 60), ("33.cc.tmp", 0)):
        (blobs / name).write_bytes(b"left behind")
        made = (blobs / name).stat().st_mtime - age
        os.utime(blobs / name, (made, made))
    with (blobs / "22.bb.tmp").open("wb") as fetching:
        fcntl.flock(fetching, fcntl.LOCK_EX)
        os.utime(blobs / "22.bb.tmp", (0, 0))
        lines = collect(use.cache, PLENTY).left_over
    assert sorted(lines) == sorted(
        [
            f"removed the rest of the snapshot {half_removed.name}",
            "removed the unfinished snapshot sha256-00.tmp",
            f"removed the snapshot {old.name} of an earlier boot",
            "removed the unfinished blob 11.aa.tmp",
        ]
    )
    assert list(use.cache.snapshots.iterdir()) == [kept]


async def test_collected_while_images_are_prepared(pulled: Pulled, use: Use) -> None:
    """Several runs prepare the same images while everything is collected all the time: each gets whole layers
    that stay as long as it holds them, and no longer."""
    image = await pulled(image_of("a", "b"))
    blobs = [path.read_bytes() for path in image.layers]
    stop = asyncio.Event()
    all_let_go = asyncio.Barrier(4)

    async def collecting() -> None:
        while not stop.is_set():
            await asyncio.to_thread(collect, use.cache, NOTHING)

    async def emptied() -> None:
        """Between two rounds nobody holds a snapshot, so the collection takes them all."""
        for _ in range(6):
            await all_let_go.wait()
            while any(one.kind == "snapshot" for one in list_entries(use.cache)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await all_let_go.wait()

    async def run() -> None:
        for _ in range(6):
            with use.cache.used() as mine:
                for path, content in zip(image.layers, blobs, strict=True):
                    use.hold(path)
                    assert path.read_bytes() == content
                prepared = await prepare_image(image, PrepareLimits(), mine)
                await asyncio.sleep(0.02)
                for number, lower in enumerate(prepared.lower):
                    assert (lower / "ab"[number]).stat().st_size == MIB
            await all_let_go.wait()
            await all_let_go.wait()

    keeping = [use.hold(path) for path in image.layers]
    assert all(keeping)
    task = asyncio.create_task(collecting())
    try:
        await asyncio.gather(run(), run(), run(), emptied())
    finally:
        stop.set()
    await task


KILLED = """
import os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from sandbox.images import layertree
from sandbox.images.cache import Cache
from sandbox.images.collect import CacheLimits, collect
count = 0
at = int(sys.argv[2])
for name in ("unlink", "rmdir", "rename"):
    def counted(*args, _call=getattr(os, name), **options):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), 9)
        return _call(*args, **options)
    setattr(os, name, counted)
collect(Cache(Path(sys.argv[1])), CacheLimits(quota_bytes=0, reserve_bytes=0))
"""


@pytest.mark.parametrize("at", range(1, 13, 2))
async def test_killed_while_it_collects(at: int, prepare: Prepare, use: Use) -> None:
    """Wherever it ends, what is left under its name is whole, and the next collection finds the rest."""
    image = image_of("a", "b")
    await prepare(image)
    use.close()
    program = KILLED.format(root=str(ROOT))
    killed = subprocess.run([sys.executable, "-c", program, str(use.cache.folder), str(at)], check=False)
    assert killed.returncode == -9
    again = await prepare(image)
    assert [(lower / name).stat().st_size for lower, name in zip(again.lower, "ab", strict=True)] == [
        MIB,
        MIB,
    ]
    use.close()
    collect(use.cache, NOTHING)
    assert list(use.cache.snapshots.iterdir()) == []


def test_a_folder_that_others_could_write_to(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    with pytest.raises(SandboxError, match="must belong to the worker's user and be closed to others"):
        Cache(tmp_path / "cache").open()


async def test_an_image_of_too_many_layers(pulled: Pulled) -> None:
    layer = make_layer(file("a", b"x"))
    with pytest.raises(SandboxError, match="the image has 501 layers; 500 can be run"):
        await pulled(make_image(*[layer] * 501, config={"Cmd": ["/x"]}))
