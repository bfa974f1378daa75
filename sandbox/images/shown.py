"""An image as another container may look at it: all of its files, and its layers one by one.

Who looks has no capabilities, and reads what its own root may read. What the image lets nobody but another
user read is therefore opened in a copy that is gone afterwards, for reading alone.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox import syscalls as kernel
from sandbox.errors import SandboxError
from sandbox.ids import IdRange
from sandbox.images.rootfs import mounted_rootfs
from sandbox.images.snapshots import PreparedImage

OPENED_BYTES = 256 * 1024 * 1024
"""How much may be copied for that."""
_CLOSED_MAX = 20


@dataclass(frozen=True, slots=True)
class ShownImage:
    """``target`` has all files, ``layers`` those of each layer, base first, as overlay has them (a whiteout
    is a device 0:0). ``closed`` are paths of ``target`` that cannot be read all the same, the first few."""

    target: Path
    layers: tuple[Path, ...]
    closed: tuple[str, ...]


@asynccontextmanager
async def shown_image(prepared: PreparedImage, folder: Path, ids: IdRange) -> AsyncIterator[ShownImage]:
    """The image below ``folder``, a run's own, for a container with these ``ids``; on exit nothing of it is
    left there.

    Raises:
        SandboxError: as :func:`sandbox.images.rootfs.mounted_rootfs`.
    """
    loop = asyncio.get_running_loop()
    # One thread, so that what is begun is over before it is taken back.
    with ThreadPoolExecutor(1, "shown") as executor:
        async with mounted_rootfs(prepared, folder, ids, written_bytes=OPENED_BYTES) as mounted:
            layers: list[Path] = []
            try:
                closed = await loop.run_in_executor(executor, _open_to, ids, mounted.path)
                await loop.run_in_executor(executor, _show_layers, prepared, folder / "layers", ids, layers)
                yield ShownImage(mounted.path, tuple(layers), closed)
            finally:
                await asyncio.shield(loop.run_in_executor(executor, _hide_layers, layers))


def _show_layers(prepared: PreparedImage, folder: Path, ids: IdRange, shown: list[Path]) -> None:
    folder.mkdir(mode=0o711)
    try:
        if prepared.mapped and prepared.lower:
            with kernel.user_namespace(ids.base, ids.size) as userns_fd:
                _attach(prepared.lower, folder, userns_fd, shown)
        else:
            _attach(prepared.lower, folder, None, shown)
    except OSError as error:
        raise SandboxError(
            "isolation-missing", f"the worker cannot mount the image's layers: {error.strerror}"
        ) from None


def _attach(layers: Sequence[Path], folder: Path, userns_fd: int | None, shown: list[Path]) -> None:
    for number, layer in enumerate(layers):
        where = folder / str(number)
        where.mkdir()
        tree = kernel.clone_tree(str(layer), userns_fd=userns_fd, read_only=True)
        try:
            kernel.attach_tree(tree, str(where))
        finally:
            os.close(tree)
        shown.append(where)


def _hide_layers(shown: Sequence[Path]) -> None:
    for where in reversed(shown):
        kernel.unmount(str(where), kernel.MNT_DETACH)


def _open_to(ids: IdRange, root: Path) -> tuple[str, ...]:
    """Let the container's root read all files and folders; the first of those that stay closed."""
    closed: list[str] = []
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _open_one(ids, ".", top, "", closed)
        todo = ["."]
        while todo:
            where = todo.pop()
            # Each from the top, through no link: names are the image's.
            flags = os.O_RDONLY | os.O_DIRECTORY
            resolve = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_SYMLINKS
            folder = kernel.openat2(top, os.fsencode(where), flags=flags, resolve=resolve)
            try:
                for name in os.listdir(folder):
                    below = name if where == "." else f"{where}/{name}"
                    if _open_one(ids, name, folder, below, closed):
                        todo.append(below)
            finally:
                os.close(folder)
    finally:
        os.close(top)
    return tuple(closed)


def _open_one(ids: IdRange, name: str, folder: int, path: str, closed: list[str]) -> bool:
    """Let one entry be read; whether it is a folder."""
    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    mode = readable_mode(info.st_mode, own=info.st_uid == ids.base, group=info.st_gid == ids.base)
    if mode != stat.S_IMODE(info.st_mode):
        try:
            # Neither a link nor a device, and nothing moves.
            os.chmod(name, mode, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EPERM, errno.EACCES):
                raise
            if len(closed) < _CLOSED_MAX:
                closed.append(path)
    return stat.S_ISDIR(info.st_mode)


def readable_mode(mode: int, *, own: bool, group: bool) -> int:
    """The permissions with which the container's root can read a file or folder of this mode, which is its
    ``own`` or of its ``group``, without any capability; those of what is neither stay as they are."""
    bits = stat.S_IMODE(mode)
    if stat.S_ISDIR(mode):
        needed = 0o5
    elif stat.S_ISREG(mode):
        needed = 0o4
    else:
        return bits
    return bits | needed << (6 if own else 3 if group else 0)
