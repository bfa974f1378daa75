"""The root file system of one run, opened so that nothing in it can lead out of it.

The image is data. Every path is resolved by the kernel beneath one folder handle (``openat2``); symbolic
links are either refused or resolved as a chroot would. The caller holds the tree still, so that nothing of
the image runs while it is looked at; only ``find`` is made for a tree that moves.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sandbox.errors import SandboxError
from sandbox.syscalls import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)

_O_PATH = os.O_PATH | os.O_CLOEXEC

Kind = Literal["absent", "folder", "file", "link", "other"]


@dataclass(frozen=True, slots=True)
class Found:
    """What stands at a path of a root file system. ``fd`` is a handle on it (``O_PATH``), to be closed."""

    fd: int
    where: str
    """Its real path, as inside."""
    mode: int
    """Type and permissions, as ``st_mode``."""
    size_bytes: int

    def read(self, limit_bytes: int) -> bytes:
        """The first bytes of a regular file."""
        # The handle is opened again: what stands at its path by now is not asked.
        fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(fd, "rb", buffering=0) as file:
            return file.read(limit_bytes) or b""


@dataclass(frozen=True, slots=True)
class Rootfs:
    """A handle on a root file system. Paths are absolute, as the container sees them."""

    fd: int

    def kind(self, path: str) -> Kind:
        """What stands at ``path``; ``link`` also where a folder on the way is a symbolic link."""
        try:
            fd = self._open(path, flags=os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return "absent" if error.errno == errno.ENOENT else "other"
            if error.errno in (errno.ELOOP, errno.EXDEV):
                return "link"
            if error.errno == errno.ENAMETOOLONG:
                return "other"
            raise
        try:
            mode = os.fstat(fd).st_mode
        finally:
            os.close(fd)
        if stat.S_ISDIR(mode):
            return "folder"
        if stat.S_ISLNK(mode):
            return "link"
        return "file" if stat.S_ISREG(mode) else "other"

    def resolve(self, path: str) -> str | None:
        """The folder that ``path`` leads to with links resolved as inside; ``None``: there is none."""
        try:
            fd = openat2(
                self.fd,
                os.fsencode(path.lstrip("/") or "."),
                flags=_O_PATH | os.O_DIRECTORY,
                resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
            )
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                return None
            raise
        try:
            return self._inside(fd)
        finally:
            os.close(fd)

    def find(self, path: str, *, follow: bool) -> Found | None:
        """What stands at ``path`` with links resolved as inside, the last one only with ``follow``; ``None``:
        nothing. Also while the run goes on: it may exchange what is there, but not lead out."""
        try:
            fd = openat2(
                self.fd,
                os.fsencode(path.lstrip("/") or "."),
                flags=_O_PATH | (0 if follow else os.O_NOFOLLOW),
                resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
            )
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                return None
            raise
        info = os.fstat(fd)
        return Found(fd, self._inside(fd), info.st_mode, info.st_size)

    def _inside(self, fd: int) -> str:
        here, there = (os.readlink(f"/proc/self/fd/{one}") for one in (self.fd, fd))
        return "/" + there[len(here) :].lstrip("/")

    def read_small(self, path: str, *, limit_bytes: int) -> bytes | None:
        """The content of a small regular file, or ``None`` where there is none.

        Raises:
            SandboxError: ``image-refused``: a link, a FIFO, a device, a folder, or larger than the limit.
        """
        try:
            # Non-blocking: the other end of a FIFO never comes.
            fd = self._open(path, flags=os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise SandboxError("image-refused", f"{path} is not a plain file") from None
        info = os.fstat(fd)
        if stat.S_ISDIR(info.st_mode):
            os.close(fd)
            raise SandboxError("image-refused", f"{path} is not a plain file")
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(info.st_mode):
                raise SandboxError("image-refused", f"{path} is not a plain file")
            if info.st_size > limit_bytes:
                raise SandboxError(
                    "image-refused", f"{path} has {info.st_size} bytes; {limit_bytes} are the limit"
                )
            return file.read(limit_bytes)

    def make_folder(self, path: str, *, owner: tuple[int, int], mode: int = 0o755) -> None:
        """Make ``path`` and what is missing above it; folders that are there keep owner and mode.

        Raises:
            SandboxError: ``image-refused``: something on the way is not a real folder.
        """
        folder = os.dup(self.fd)
        try:
            for name in parts(path):
                created = False
                try:
                    os.mkdir(name, mode, dir_fd=folder)
                    created = True
                except FileExistsError:
                    pass
                except OSError as error:
                    why = os.strerror(error.errno or 0)
                    raise SandboxError("image-refused", f"{path[:200]} cannot be made: {why}") from None
                try:
                    below = openat2(
                        folder,
                        os.fsencode(name),
                        flags=os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW,
                        resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
                    )
                except OSError:
                    raise SandboxError(
                        "image-refused", f"{path} or a folder above it is not a real folder"
                    ) from None
                os.close(folder)
                folder = below
                if created:
                    os.fchown(folder, *owner)
                    os.fchmod(folder, mode)
        finally:
            os.close(folder)

    def set_mode(self, path: str, mode: int) -> None:
        """Change the mode of a real folder."""
        fd = self._open(path, flags=os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fchmod(fd, mode)
        finally:
            os.close(fd)

    def write_file(self, path: str, content: bytes, *, owner: tuple[int, int], mode: int = 0o644) -> None:
        """Put a plain file of ours at ``path``, in the place of whatever file or link stood there.

        Raises:
            SandboxError: ``image-refused``: a folder stands there.
        """
        above, _, name = path.rpartition("/")
        folder = self._open(above or "/", flags=os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                os.unlink(name, dir_fd=folder)
            except FileNotFoundError:
                pass
            except (IsADirectoryError, PermissionError):
                raise SandboxError("image-refused", f"{path} is a folder") from None
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(name, flags, mode, dir_fd=folder)
            with os.fdopen(fd, "wb") as file:
                os.fchown(file.fileno(), *owner)
                os.fchmod(file.fileno(), mode)
                file.write(content)
        finally:
            os.close(folder)

    def room_bytes(self) -> int:
        """What is left of the writable layer."""
        room = os.fstatvfs(self.fd)
        return room.f_bavail * room.f_frsize

    def nearly_full(self) -> bool:
        """Whether the writable layer has no room left, in bytes or in files."""
        room = os.fstatvfs(self.fd)
        no_bytes = room.f_blocks > 0 and room.f_bavail * room.f_frsize < 64 * 1024
        no_files = room.f_files > 0 and room.f_favail == 0
        return no_bytes or no_files

    def _open(self, path: str, *, flags: int) -> int:
        where = os.fsencode(path.lstrip("/") or ".")
        return openat2(self.fd, where, flags=flags, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)


@contextmanager
def open_rootfs(path: Path) -> Iterator[Rootfs]:
    """Open the root file system that stands at ``path`` of the host."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield Rootfs(fd)
    finally:
        os.close(fd)


def parts(path: str) -> list[str]:
    """The names in an absolute path, without empty ones and ``.``.

    Raises:
        SandboxError: ``image-refused``: the path climbs (``..``), is not absolute or has a NUL.
    """
    names = [name for name in path.split("/") if name not in ("", ".")]
    if not path.startswith("/") or ".." in names or "\0" in path:
        raise SandboxError("image-refused", f"{path[:200]!r} is not a plain absolute path")
    return names
