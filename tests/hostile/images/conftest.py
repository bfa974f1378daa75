"""Every test here ends with a look at the host: a canary tree, the mount table, loop devices, processes."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from registry.contract.limits import PrepareLimits
from registry.oci.platform import Platform
from sandbox.ids import leased_ids
from sandbox.images.cache import Cache, Use
from sandbox.images.pull import PulledImage, pull
from sandbox.images.rootfs import mounted_rootfs
from sandbox.images.snapshots import PreparedImage
from sandbox.images.snapshots import prepare as prepare_image
from sandbox.images.sourcefile import LayoutSource
from tests.kit.images import Image, write_layout

AMD64 = Platform("linux", "amd64")
Prepare = Callable[..., Awaitable[PreparedImage]]
Mounted = Callable[..., AbstractAsyncContextManager[Path]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if "hostile/images" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="mounts need root; CI runs as root"))


def tree(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Every path below a folder with mode, owner, size and content."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        state = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (state.st_mode, state.st_uid, state.st_nlink, content)
    return found


def mounts_and_loops(needle: str) -> list[str]:
    """Mounts and loop devices that mention a path."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if needle in line]
    loops = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            loops.append(backing.read_text())
        except (FileNotFoundError, OSError):
            continue
    return mounts + [one for one in loops if needle in one]


def processes(needle: str) -> list[str]:
    """Processes with a word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if needle in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    (path / "runs").mkdir(parents=True)
    return path


@pytest.fixture(autouse=True)
def canary(tmp_path: Path) -> Iterator[Path]:
    """A folder on the host that no image may touch, whatever it says."""
    folder = tmp_path / "canary"
    folder.mkdir()
    (folder / "file").write_text("untouched")
    (folder / "sub").mkdir()
    (folder / "sub" / "file").write_text("untouched too")
    before = tree(folder)
    yield folder
    assert tree(folder) == before
    # The kernel lets go of a loop device some moments after its last user.
    deadline_at = time.monotonic() + 30
    needle = str(tmp_path)
    while (mounts_and_loops(needle) or processes(needle)) and time.monotonic() < deadline_at:
        time.sleep(0.01)
    assert mounts_and_loops(str(tmp_path)) == []
    assert processes(str(tmp_path)) == []


@pytest.fixture
def use(state: Path) -> Iterator[Use]:
    with Cache(state / "cache").used() as use:
        yield use


@pytest.fixture
def pulled(use: Use, tmp_path: Path) -> Callable[[Image], Awaitable[PulledImage]]:
    async def get(image: Image) -> PulledImage:
        layout = write_layout(tmp_path / f"layout-{image.digest[7:19]}", image)
        return await pull(LayoutSource(layout), "", platform=AMD64, use=use, limits=PrepareLimits())

    return get


@pytest.fixture
def prepare(use: Use, pulled: Callable[[Image], Awaitable[PulledImage]]) -> Prepare:
    async def get(image: Image, **limits: float) -> PreparedImage:
        return await prepare_image(await pulled(image), PrepareLimits(**limits), use)  # type: ignore[arg-type]

    return get


@pytest.fixture
def mounted(state: Path, prepare: Prepare) -> Mounted:
    @asynccontextmanager
    async def get(image: Image, *, written_bytes: int = 1 << 20) -> AsyncIterator[Path]:
        prepared = await prepare(image)
        run_dir = state / "runs" / f"run-{os.urandom(4).hex()}"
        run_dir.mkdir()
        with leased_ids() as ids:
            async with mounted_rootfs(prepared, run_dir, ids, written_bytes=written_bytes) as rootfs:
                yield rootfs.path
        assert list(run_dir.iterdir()) == []

    return get
