"""The tree that a layer is written to, walked so that no link leads out of it.

The root handle is the root of everything: links are followed part by part, as a chroot would (layers write
through ``/lib -> usr/lib`` made below). Nothing here ever opens a path of more than one part.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress

from sandbox.images.tarpolicy import DEPTH_MAX, LayerError, Parts

LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS_MAX = 40
_CACHED_FOLDERS = 128


class LayerTree:
    """Folders below ``root``, opened by path and kept open for a while. Missing ones are made on demand, each
    told to ``on_making`` before."""

    def __init__(self, root: int, on_making: Callable[[Parts], None]) -> None:
        self.root = root
        self._on_making = on_making
        self._folders: OrderedDict[Parts, tuple[int, Parts]] = OrderedDict()

    def folder(self, parts: Parts, *, create: bool) -> tuple[int, Parts] | None:
        """The folder a path leads to, as an open handle and the path without links; handles belong to the
        cache. ``None`` where it is not there and not to be created."""
        if not parts:
            return self.root, ()
        cached = self._folders.get(parts)
        if cached is not None:
            self._folders.move_to_end(parts)
            return cached
        found = self._walk(parts, create=create)
        if found is not None:
            self._folders[parts] = found
            if len(self._folders) > _CACHED_FOLDERS:
                os.close(self._folders.popitem(last=False)[1][0])
        return found

    def remove(self, parent: int, name: bytes, *, forget: bool = True) -> None:
        """Remove whatever has this name, with all below it; nothing there is fine."""
        try:
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            remove_folder(parent, name)
        else:
            os.unlink(name, dir_fd=parent)
        if stat.S_ISREG(mode) or not forget:
            return
        # Cached folders may have led through what is gone. The caller's own parent stays open: it is the
        # newest, and what is removed lies below it.
        self.forget(but=parent)

    def forget(self, *, but: int = -1) -> None:
        kept = [(parts, found) for parts, found in self._folders.items() if found[0] == but]
        for fd, _ in self._folders.values():
            if fd != but:
                os.close(fd)
        self._folders.clear()
        self._folders.update(kept)

    def _walk(self, parts: Parts, *, create: bool) -> tuple[int, Parts] | None:
        above = self._folders.get(parts[:-1])
        if above is not None:
            with suppress(OSError):
                return os.open(parts[-1], _FOLDER, dir_fd=above[0]), (*above[1], parts[-1])
        todo = deque(parts)
        names: list[bytes] = []
        handles: list[int] = []
        links = 0
        try:
            while todo:
                name = todo.popleft()
                if name in (b"", b"."):
                    continue
                if name == b"..":
                    if names:
                        names.pop()
                        os.close(handles.pop())
                    continue
                here = handles[-1] if handles else self.root
                fd = self._open_or_make(here, (*names, name), create=create)
                if fd is None:
                    return None
                if fd >= 0:
                    names.append(name)
                    handles.append(fd)
                    continue
                links += 1
                if links > _LINKS_MAX:
                    raise LayerError("layer-invalid", "lies below links that lead in a circle")
                target = os.readlink(name, dir_fd=here)
                if target.startswith(b"/"):
                    names.clear()
                    while handles:
                        os.close(handles.pop())
                todo.extendleft(reversed(target.split(b"/")))
            last = handles.pop() if handles else os.open(b".", _FOLDER, dir_fd=self.root)
            return last, tuple(names)
        finally:
            for fd in handles:
                os.close(fd)

    def _open_or_make(self, here: int, path: Parts, *, create: bool) -> int | None:
        """A handle of the folder; -1: it is a link; ``None``: not there."""
        name = path[-1]
        if len(path) > DEPTH_MAX:
            raise LayerError("layer-invalid", f"lies more than {DEPTH_MAX} folders deep")
        try:
            return os.open(name, _FOLDER, dir_fd=here)
        except FileNotFoundError:
            if not create:
                return None
            self._on_making(path)
            os.mkdir(name, 0o755, dir_fd=here)
            return os.open(name, _FOLDER, dir_fd=here)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
        if stat.S_ISLNK(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
            return -1
        if not create:
            return None
        raise LayerError("layer-invalid", "lies below something that is no folder")


def names_in(folder: int) -> list[bytes]:
    fd = os.open(b".", LIST, dir_fd=folder)
    try:
        return [os.fsencode(name) for name in os.listdir(fd)]
    finally:
        os.close(fd)


def is_folder(parent: int, name: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def remove_folder(parent: int, name: bytes) -> None:
    """Remove a folder and all below it, without recursion and without following anything."""
    path: list[tuple[int, bytes, list[bytes]]] = []
    here = parent
    try:
        while True:
            fd = os.open(name, LIST, dir_fd=here)
            folders = []
            for child in os.listdir(fd):
                raw = os.fsencode(child)
                if is_folder(fd, raw):
                    folders.append(raw)
                else:
                    os.unlink(raw, dir_fd=fd)
            path.append((fd, name, folders))
            while path and not path[-1][2]:
                fd, name, _ = path.pop()
                os.close(fd)
                os.rmdir(name, dir_fd=path[-1][0] if path else parent)
            if not path:
                return
            here, name = path[-1][0], path[-1][2].pop()
    finally:
        for fd, _, _ in path:
            os.close(fd)
