"""Writes the members of one layer into a folder that shows the layers below it.

Where a member goes is for :mod:`sandbox.images.layertree` to find; here stands what becomes of it there, what
is counted, and what a whiteout may hide.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass

from sandbox.images.layerstream import BLOCK_BYTES, LayerReader
from sandbox.images.layertree import LIST, LayerTree, is_folder, names_in
from sandbox.images.tarpolicy import DEPTH_MAX, Entry, LayerError, Parts, split_path

_FOLDER_BYTES = 4096
_LOOK_BYTES = 16 * 1024 * 1024
_LOOK_FILES = 64
_FILES_LEFT = 0.05
"""The share of a disk's files that is left to others."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Counts:
    """What a layer came to: bytes of files, entries made, what was left out or noticed, what it takes on
    disk (more where a layer names a file twice)."""

    written_bytes: int = 0
    files: int = 0
    skipped_special: int = 0
    skipped_xattrs: int = 0
    setuid: int = 0
    disk_bytes: int = 0


class LayerWriter:
    """Applies entries to the tree at ``root_fd``; ``lower`` says whether layers lie below.
    ``reserve_bytes`` of the disk are left free. The umask is 0."""

    def __init__(
        self, root_fd: int, *, lower: bool, max_bytes: int, max_files: int, reserve_bytes: int = 0
    ) -> None:
        self.counts = Counts()
        self._root = root_fd
        self._reserve_bytes = reserve_bytes
        self._unseen_bytes = _LOOK_BYTES
        self._tree = LayerTree(root_fd, self._making_folder)
        self._max_bytes = max_bytes
        self._max_files = max_files
        # What this layer made, by hash of its path: whiteouts hide the layers below, never this one.
        self._made: set[int] | None = set() if lower else None
        self._copied: set[int] = set()
        self._times: dict[Parts, int] = {}

    def apply(self, entry: Entry, reader: LayerReader, data_end: int) -> None:
        """Make one entry; a file's data comes from ``reader``, up to its offset ``data_end``.

        Raises:
            LayerError: a budget is spent, or the entry cannot be made.
        """
        self._count(entry)
        if entry.kind == "metadata":
            return
        if entry.kind == "opaque":
            self._hide(entry.parts)
        elif entry.kind == "whiteout":
            self._whiteout(entry.parts)
        elif not entry.parts:
            self._root_folder(entry)
        else:
            self._make(entry, reader, data_end)

    def finish(self) -> None:
        """Set the times of folders, which making their children has moved."""
        for parts in sorted(self._times):
            parent = self._tree.folder(parts[:-1], create=False)
            if parent is None or not parts:
                continue
            with suppress(FileNotFoundError):
                os.utime(parts[-1], ns=(self._times[parts],) * 2, dir_fd=parent[0], follow_symlinks=False)
        if () in self._times:
            fd = os.open(b".", LIST, dir_fd=self._tree.root)
            os.utime(fd, ns=(self._times[()],) * 2)
            os.close(fd)
        self._tree.forget()

    def _count(self, entry: Entry) -> None:
        self.counts.skipped_xattrs += entry.skipped_xattrs
        self._count_bytes(entry.size)
        if entry.kind == "file":
            held = entry.size if entry.sparse is None else sum(length for _, length in entry.sparse)
            self._look_at_disk(held)
        self._count_file()

    def _look_at_disk(self, size: int) -> None:
        """Refuse what would take the disk below its reserve: others write to it too."""
        self._unseen_bytes += size
        if self._unseen_bytes < _LOOK_BYTES:
            return
        self._unseen_bytes = 0
        disk = os.fstatvfs(self._root)
        if disk.f_bavail * disk.f_frsize < size + self._reserve_bytes:
            raise LayerError("worker-disk", "takes more disk than the worker has to spare")

    def _count_bytes(self, size: int) -> None:
        self.counts.written_bytes += size
        if self.counts.written_bytes > self._max_bytes:
            raise LayerError(
                "too-large", f"takes the image over its limit; {self._max_bytes} bytes were left of it"
            )

    def _count_file(self) -> None:
        self.counts.files += 1
        if self.counts.files > self._max_files:
            raise LayerError(
                "too-many-files", f"takes the image over its limit; {self._max_files} entries were left of it"
            )
        if self.counts.files % _LOOK_FILES == 0:
            disk = os.fstatvfs(self._root)
            if disk.f_favail < disk.f_files * _FILES_LEFT:
                raise LayerError("worker-disk", "takes more files than the worker's disk has to spare")

    def _make(self, entry: Entry, reader: LayerReader, data_end: int) -> None:
        found = self._tree.folder(entry.parts[:-1], create=True)
        assert found is not None
        parent, above = found
        name = entry.parts[-1]
        path = (*above, name)
        if len(path) > DEPTH_MAX:
            raise LayerError("layer-invalid", f"lies {len(path)} folders deep; {DEPTH_MAX} are the limit")
        self._times.pop(path, None)
        if entry.kind == "folder":
            self._make_folder(entry, parent, name, path)
        elif entry.kind == "file":
            self._make_file(entry, parent, name, reader, data_end)
        elif entry.kind == "symlink":
            self._make_symlink(entry, parent, name)
        elif entry.kind == "hardlink":
            self._make_hardlink(entry, parent, name, path)
        else:
            self.counts.skipped_special += 1
            self._tree.remove(parent, name)
        self._mark(path)

    def _mark(self, path: Parts) -> None:
        """Note that this layer has made something here, and so has a part in each folder above."""
        if self._made is None:
            return
        while path and hash(path) not in self._made:
            self._made.add(hash(path))
            path = path[:-1]

    def _making_folder(self, path: Parts) -> None:
        self._count_file()
        self._mark(path)

    def _make_folder(self, entry: Entry, parent: int, name: bytes, path: Parts) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                self._tree.remove(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, LIST, dir_fd=parent)
        try:
            self._attributes(fd, entry)
        finally:
            os.close(fd)
        self.counts.disk_bytes += _FOLDER_BYTES
        self._times[path] = entry.mtime_ns

    def _root_folder(self, entry: Entry) -> None:
        fd = os.open(b".", LIST, dir_fd=self._tree.root)
        try:
            self._attributes(fd, entry)
        finally:
            os.close(fd)
        self._times[()] = entry.mtime_ns

    def _make_file(self, entry: Entry, parent: int, name: bytes, reader: LayerReader, data_end: int) -> None:
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._tree.remove(parent, name)
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            if entry.sparse is None:
                _copy(reader, fd, entry.size)
            else:
                if sum(length for _, length in entry.sparse) > data_end - reader.tell():
                    raise LayerError("layer-invalid", "has a sparse map with more data than follows")
                for offset, length in entry.sparse:
                    os.lseek(fd, offset, os.SEEK_SET)
                    _copy(reader, fd, length)
                os.ftruncate(fd, entry.size)
            self._attributes(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            self.counts.disk_bytes += os.fstat(fd).st_blocks * 512
        finally:
            os.close(fd)

    def _make_symlink(self, entry: Entry, parent: int, name: bytes) -> None:
        try:
            os.symlink(entry.target, name, dir_fd=parent)
        except FileExistsError:
            self._tree.remove(parent, name)
            os.symlink(entry.target, name, dir_fd=parent)
        if entry.uid or entry.gid:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _make_hardlink(self, entry: Entry, parent: int, name: bytes, path: Parts) -> None:
        target = split_path(entry.target, "link target")
        found = self._tree.folder(target[:-1], create=False) if target else None
        if found is None:
            raise LayerError("layer-invalid", "is a hard link to something that is not in the image")
        source, above = found
        if (*above, target[-1]) == path:
            return
        # Removing what is in the way may close cached handles.
        source = os.dup(source)
        try:
            found_target = os.stat(target[-1], dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(found_target.st_mode):
                raise LayerError("layer-invalid", "is a hard link to a folder")
            below = (*above, target[-1])
            if self._made is not None and not (hash(below) in self._made or hash(below) in self._copied):
                # Linking to a file of a layer below copies it into this one.
                self._copied.add(hash(below))
                self._count_bytes(found_target.st_size)
                self.counts.disk_bytes += found_target.st_blocks * 512
            self._tree.remove(parent, name)
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise LayerError(
                "layer-invalid", "is a hard link to something that is not in the image"
            ) from None
        finally:
            os.close(source)

    def _attributes(self, fd: int, entry: Entry) -> None:
        # The owner first: changing it clears the set-id bits.
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        if entry.mode & 0o6000 and entry.kind == "file":
            self.counts.setuid += 1
        for name, value in entry.xattrs:
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.ENOSPC, errno.E2BIG, errno.ERANGE):
                    raise
                self.counts.skipped_xattrs += 1

    def _whiteout(self, parts: Parts) -> None:
        found = self._tree.folder(parts[:-1], create=False)
        if self._made is None or found is None:
            return
        parent, above = found
        path = (*above, parts[-1])
        if hash(path) in self._made:
            # This layer has it again: of a folder, what is below must not show through it.
            if is_folder(parent, parts[-1]):
                self._hide(path)
        else:
            self._tree.remove(parent, parts[-1])

    def _hide(self, parts: Parts) -> None:
        """Remove what layers below have in a folder, and keep what this one made there."""
        if self._made is None:
            return
        todo = [parts]
        while todo:
            found = self._tree.folder(todo.pop(), create=False)
            if found is None:
                continue
            parent, path = found
            for name in names_in(parent):
                child = (*path, name)
                if hash(child) not in self._made:
                    self._tree.remove(parent, name, forget=False)
                elif is_folder(parent, name):
                    todo.append(child)
            self._tree.forget()


def _copy(reader: LayerReader, fd: int, size: int) -> None:
    left = size
    while left:
        piece = reader.read_some(min(left, BLOCK_BYTES))
        if not piece:
            raise LayerError("layer-invalid", "is cut off: the layer ends inside it")
        left -= len(piece)
        while piece:
            piece = piece[os.write(fd, piece) :]
