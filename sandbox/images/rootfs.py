"""The root file system of one run: snapshots below, one bounded writable layer above.

The snapshots are seen through id-mapped mounts, so that one copy serves every range of ids. Only the overlay
stays visible in the mount table: what it is made of is unmounted as soon as it stands, so the end of one
mount is the end of all, after a crash too.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sandbox import syscalls as kernel
from sandbox.errors import SandboxError
from sandbox.ids import IdRange
from sandbox.images.cache import remove_path, try_lock
from sandbox.images.snapshots import PreparedImage
from sandbox.images.writable import mount_writable
from sandbox.lsm.selinux import run_labels

LOCK = "rootfs.lock"
_EARLIER = ("snapshots", "blobs", "locks")
_OVERLAY_OPTIONS = "volatile,metacopy=off,redirect_dir=nofollow,index=off"
_UNMOUNT_SECONDS = 1.0
_ESCAPED = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountedRootfs:
    """``path`` is the root file system of a run, ``upper_fd`` a handle of its writable layer alone."""

    path: Path
    upper_fd: int


@asynccontextmanager
async def mounted_rootfs(
    prepared: PreparedImage, run_dir: Path, ids: IdRange, *, written_bytes: int
) -> AsyncIterator[MountedRootfs]:
    """The image mounted at ``run_dir``/rootfs (nosuid, nodev), its ids shifted to ``ids``; at most
    ``written_bytes`` can be written to it (ENOSPC after that). On exit everything is unmounted and removed.

    ``run_dir`` exists, belongs to this run alone, and each of its parents can be entered by everybody (0711).

    Raises:
        SandboxError: ``worker-disk``, ``isolation-missing``, ``worker-error``.
    """
    loop = asyncio.get_running_loop()
    # One thread for this run alone: it gives itself a working directory of its own.
    with try_lock(run_dir / LOCK) as held, ThreadPoolExecutor(1, "rootfs") as executor:
        if not held:
            raise SandboxError("worker-error", "the run's folder is in use by another run")
        handles: list[int] = []
        try:
            mounting = loop.run_in_executor(executor, _mount, prepared, run_dir, ids, written_bytes, handles)
            await asyncio.shield(mounting)
            yield MountedRootfs(run_dir / "rootfs", handles[0])
        finally:
            await asyncio.shield(loop.run_in_executor(executor, _take_down, run_dir, handles))


def sweep(state: Path) -> list[str]:
    """Unmount and remove what killed workers left under ``state`` (mounts, loop devices, run folders);
    returns a line for each thing done. Blocking; call it at start, after the containers that a killed worker
    left have been ended, and before this one makes a run folder.

    Runs that are alive hold a lock in their run folder and are left alone.
    """
    done: list[str] = []
    runs = state / "runs"
    for run_dir in sorted(runs.iterdir()) if runs.is_dir() else ():
        with try_lock(run_dir / LOCK) as held:
            if held:
                done += [f"unmounted {target}" for target in _detach_below(run_dir)]
                if not _mounts_below(run_dir):
                    remove_path(run_dir)
                    done.append(f"removed the run folder {run_dir.name}")
    if all((state / name).is_dir() for name in _EARLIER):
        # An earlier version had the cache here; one of these names alone may be somebody's folder.
        for name in _EARLIER:
            remove_path(state / name)
            done.append(f"removed the folder {name} of an earlier version")
    return done


def _mount(
    prepared: PreparedImage, run_dir: Path, ids: IdRange, written_bytes: int, handles: list[int]
) -> None:
    try:
        kernel.unshare(kernel.CLONE_FS)
        (run_dir / "rootfs").mkdir(mode=0o711)
        (run_dir / "mnt").mkdir(mode=0o700)
        with _working_in(run_dir / "mnt"):
            if prepared.mapped:
                with kernel.user_namespace(ids.base, ids.size) as userns_fd:
                    lower = _attach(prepared.lower, userns_fd)
            else:
                lower = _attach(prepared.lower, None)
            os.mkdir("rw")
            mount_writable(run_dir / "rw.img", "rw", written_bytes)
            _upper(prepared, ids)
            options = f"lowerdir={lower},upperdir=rw/u,workdir=rw/w,{_OVERLAY_OPTIONS}"
            if not prepared.mapped:
                options = f"{options},userxattr"
            labels = run_labels()
            if labels is not None:
                options = f'{options},context="{labels.files}"'
            kernel.mount("none", f"{run_dir}/rootfs", "overlay", kernel.MS_NOSUID | kernel.MS_NODEV, options)
            handles.append(os.open("rw/u", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SandboxError("worker-disk", "the worker's disk is full", retryable=True) from None
        raise SandboxError(
            "isolation-missing", f"the worker cannot mount the image's root file system: {error}"
        ) from None


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Work in a tmpfs of the moment: short relative names keep host paths out of the container's view."""
    kernel.mount("none", str(folder), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=700")
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir("/")
        # With all that is mounted in it.
        kernel.unmount(str(folder), kernel.MNT_DETACH)


def _attach(layers: Sequence[Path], userns_fd: int | None) -> str:
    """Mount the layers read-only in the current folder; returns them as overlay's ``lowerdir``."""
    if not layers:
        os.mkdir("0")
        return "0"
    for number, layer in enumerate(layers, start=1):
        os.mkdir(str(number))
        tree = kernel.clone_tree(str(layer), userns_fd=userns_fd, read_only=True, executable=True)
        try:
            kernel.attach_tree(tree, str(number))
        finally:
            os.close(tree)
    return ":".join(str(number) for number in range(len(layers), 0, -1))


def _upper(prepared: PreparedImage, ids: IdRange) -> None:
    for name in ("rw/u", "rw/w"):
        os.mkdir(name, 0o755)
        os.chown(name, ids.base, ids.base)
    if prepared.lower:
        # The merged root folder looks like the upper one.
        root = os.stat(prepared.lower[-1], follow_symlinks=False)
        shift = ids.base if prepared.mapped else 0
        os.chown("rw/u", root.st_uid + shift, root.st_gid + shift)
        os.chmod("rw/u", root.st_mode & 0o7777)


def _take_down(run_dir: Path, handles: Sequence[int]) -> None:
    for fd in handles:
        os.close(fd)
    deadline_at = time.monotonic() + _UNMOUNT_SECONDS
    for target in sorted(_mounts_below(run_dir), reverse=True):
        while True:
            try:
                kernel.unmount(target, kernel.MNT_DETACH if time.monotonic() > deadline_at else 0)
                break
            except OSError as error:
                if error.errno != errno.EBUSY:
                    break
                time.sleep(0.02)
    # The kernel lets go of the device some moments after its last user.
    while _has_loop(run_dir / "rw.img") and time.monotonic() < deadline_at:
        time.sleep(0.005)
    for name in ("rootfs", "mnt", "rw.img", LOCK):
        path = run_dir / name
        with suppress(FileNotFoundError):
            path.unlink() if path.is_file() else path.rmdir()


def _has_loop(image: Path) -> bool:
    path = os.path.realpath(image)
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):
            if backing.read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n") == path:
                return True
    return False


def _detach_below(folder: Path) -> list[str]:
    done = []
    for target in sorted(_mounts_below(folder), reverse=True):
        with suppress(OSError):
            kernel.unmount(target, kernel.MNT_DETACH)
            done.append(target)
    return done


def _mounts_below(folder: Path) -> list[str]:
    """Mount points at and below a folder."""
    prefix = os.path.realpath(folder)
    found = []
    with open("/proc/thread-self/mountinfo", "rb") as table:
        for line in table:
            raw = _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), line.split(b" ")[4])
            target = os.fsdecode(raw)
            if target == prefix or target.startswith(f"{prefix}/"):
                found.append(target)
    return found
