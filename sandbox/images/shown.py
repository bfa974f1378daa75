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
    async with mounted_rootfs(prepared, folder, ids, written_bytes=OPENED_BYTES) as mounted:
        layers: list[Path] = []
        try:
            closed = await asyncio.to_thread(_open_to, ids, mounted.path)
            await asyncio.to_thread(_show_layers, prepared, folder / "layers", ids, layers)
            yield ShownImage(mounted.path, tuple(layers), closed)
        finally:
            await asyncio.shield(asyncio.to_thread(_hide_layers, layers))


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
    """Let the container's root read all files and folders; those that stay closed."""
    closed: list[str] = []
    for where, folders, files, fd in os.fwalk(root, follow_symlinks=False):
        for name in (".", *files) if where == str(root) else files:
            _open_one(ids, name, fd, where, closed)
        for name in folders:
            _open_one(ids, name, fd, where, closed)
    return tuple(one.removeprefix(f"{root}/") for one in closed)


def _open_one(ids: IdRange, name: str, fd: int, where: str, closed: list[str]) -> None:
    info = os.stat(name, dir_fd=fd, follow_symlinks=False)
    mode = readable_mode(info.st_mode, own=info.st_uid == ids.base, group=info.st_gid == ids.base)
    if mode == stat.S_IMODE(info.st_mode):
        return
    try:
        # Neither a link nor a device, and nothing moves.
        os.chmod(name, mode, dir_fd=fd)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EPERM, errno.EACCES):
            raise
        if len(closed) < _CLOSED_MAX:
            closed.append(f"{where}/{name}")


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
