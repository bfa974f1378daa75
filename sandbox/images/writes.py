"""What a run wrote: its writable layer, listed beside the layers below it, and exported as one more layer.

The run is over and nothing moves, but every name in there was chosen by it: folders are opened one by one,
links are never followed, only plain files are opened. A FIFO is listed and not touched.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal

from sandbox.images.tarpolicy import DEPTH_MAX, MARKER, OPAQUE, PATH_MAX
from sandbox.syscalls import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

Change = Literal["added", "changed", "replaced", "deleted"]
"""``replaced``: a folder of which nothing shows that was there before."""
Kind = Literal["file", "folder", "link", "fifo", "socket", "other"]
LISTED_MAX = 10_000
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, slots=True)
class Upper:
    """The writable layer of a run that is over. ``lower`` are the layers below it, base first; ``id_base`` is
    what was added to its ids. What was last changed up to ``since_ns`` is the worker's own."""

    fd: int
    lower: tuple[Path, ...]
    id_base: int
    since_ns: int


@dataclass(frozen=True, slots=True)
class Write:
    """One thing that the run made, changed or removed. ``path`` is as the run saw it, any bytes; the kind and
    size of what was deleted are not told. ``left_out`` says why it is not in the export."""

    path: bytes
    change: Change
    kind: Kind | None
    size_bytes: int
    mode: int
    uid: int
    gid: int
    left_out: str | None = None


@dataclass(frozen=True, slots=True)
class Writes:
    """All that a run wrote. ``entries`` are the first ``LISTED_MAX`` of ``count``; ``size_bytes`` is what all
    files hold together, as they say."""

    entries: tuple[Write, ...]
    count: int
    size_bytes: int
    left_out: int


def collect_writes(upper: Upper, *, archive: IO[bytes] | None = None) -> Writes:
    """List what was written, and put it into ``archive`` as a layer (image-spec, layer.md): a tar with a
    whiteout for what was deleted. Files go into it until they have as many bytes as the layer has room for:
    one with holes can say that it is larger. Blocking.

    Raises:
        OSError: the archive cannot be written.
    """
    entries: list[Write] = []
    count = size = left_out = 0
    with ExitStack() as stack:
        lower = [os.open(one, _LIST) for one in reversed(upper.lower)]
        for fd in lower:
            stack.callback(os.close, fd)
        tar = None
        if archive is not None:
            tar = stack.enter_context(tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT))
        room = os.fstatvfs(upper.fd)
        export = None if tar is None else _Export(tar, room.f_blocks * room.f_frsize)
        for found in _walk(upper, lower):
            write = found.write if export is None else export.add(found)
            count += 1
            size += write.size_bytes
            left_out += write.left_out is not None
            if len(entries) < LISTED_MAX:
                entries.append(write)
    return Writes(tuple(entries), count, size, left_out)


@dataclass(frozen=True, slots=True)
class _Found:
    """A write, and where it stands: ``name`` in ``parent``, which is open while the walk is at it."""

    write: Write
    info: os.stat_result
    parent: int
    name: bytes


@dataclass(slots=True)
class _Folder:
    """A folder of the writable layer that the walk is in: its handle, its path, the names still to come, and
    the layers below that show through it, top first."""

    fd: int
    path: bytes
    todo: list[bytes]
    below: Sequence[int]


def _walk(upper: Upper, lower: Sequence[int]) -> Iterator[_Found]:
    """Every write, each folder before what is in it, in the order of their names."""
    path = [_opened(upper.fd, b".", b"", lower)]
    try:
        while path:
            here = path[-1]
            if not here.todo:
                os.close(path.pop().fd)
                continue
            name = here.todo.pop()
            info = os.stat(name, dir_fd=here.fd, follow_symlinks=False)
            where = here.path + b"/" + name
            below = _below(here.below, where)
            folder = stat.S_ISDIR(info.st_mode)
            shut = folder and _is_opaque(here.fd, name)
            left_out = None
            if len(path) > DEPTH_MAX or len(where) > PATH_MAX:
                left_out = "it lies too deep"
            elif name.startswith(MARKER) and not _is_whiteout(info):
                left_out = "in a layer its name would mean that something was deleted"
            if left_out is not None or info.st_ctime_ns > upper.since_ns:
                write = _write(where, info, upper.id_base, below, shut=shut, left_out=left_out)
                yield _Found(write, info, here.fd, name)
            if folder and left_out is None:
                shown = () if shut or below is None else below
                path.append(_opened(here.fd, name, where, shown))
    finally:
        for folder_left in path:
            os.close(folder_left.fd)


def _opened(parent: int, name: bytes, path: bytes, below: Sequence[int]) -> _Folder:
    fd = os.open(name, _LIST, dir_fd=parent)
    names = sorted((os.fsencode(one) for one in os.listdir(fd)), reverse=True)
    return _Folder(fd, path, names, below)


def _write(
    path: bytes,
    info: os.stat_result,
    id_base: int,
    below: Sequence[int] | None,
    *,
    shut: bool,
    left_out: str | None,
) -> Write:
    if _is_whiteout(info):
        return Write(path, "deleted", None, 0, 0, 0, 0, left_out)
    kind = _KINDS.get(stat.S_IFMT(info.st_mode), "other")
    change: Change = "added"
    if below is not None:
        change = "replaced" if shut and below else "changed"
    return Write(
        path,
        change,
        kind,
        info.st_size if kind == "file" else 0,
        stat.S_IMODE(info.st_mode),
        info.st_uid - id_base,
        info.st_gid - id_base,
        left_out,
    )


def _below(layers: Sequence[int], path: bytes) -> list[int] | None:
    """The layers that show through a folder at ``path``, none where a file stood there; ``None`` where there
    was nothing."""
    shown: list[int] | None = None
    for layer in layers:
        try:
            fd = openat2(
                layer,
                path.lstrip(b"/"),
                flags=os.O_PATH | os.O_NOFOLLOW,
                resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
            )
        except OSError:
            continue
        try:
            info = os.fstat(fd)
            if not stat.S_ISDIR(info.st_mode):
                if shown is None and not _is_whiteout(info):
                    shown = []
                break
            shown = [*(shown or ()), layer]
            if _is_opaque(fd, b"."):
                break
        finally:
            os.close(fd)
    return shown


def _is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _is_opaque(parent: int, name: bytes) -> bool:
    fd = os.open(name, _LIST, dir_fd=parent)
    try:
        for attribute in _OPAQUE:
            with suppress(OSError):
                if os.getxattr(fd, attribute) == b"y":
                    return True
    finally:
        os.close(fd)
    return False


class _Export:
    """Puts writes into a tar."""

    def __init__(self, tar: tarfile.TarFile, max_bytes: int) -> None:
        self._tar = tar
        self._left = max_bytes
        self._links: dict[int, str] = {}

    def add(self, found: _Found) -> Write:
        """Put it in, or say why not."""
        write, info = found.write, found.info
        if write.left_out is not None:
            return write
        path = os.fsdecode(write.path[1:])
        above, slash, name = path.rpartition("/")
        if write.change == "deleted":
            self._tar.addfile(tarfile.TarInfo(f"{above}{slash}{os.fsdecode(MARKER)}{name}"))
            return write
        member = tarfile.TarInfo(path)
        member.mode, member.uid, member.gid = write.mode, write.uid, write.gid
        member.mtime = info.st_mtime
        left_out = None
        if write.kind == "file":
            left_out = self._file(member, found)
        elif write.kind == "folder":
            member.type = tarfile.DIRTYPE
            self._tar.addfile(member)
            if write.change == "replaced":
                self._tar.addfile(tarfile.TarInfo(f"{path}/{os.fsdecode(OPAQUE)}"))
        elif write.kind == "link":
            member.type = tarfile.SYMTYPE
            member.linkname = os.readlink(os.fsdecode(found.name), dir_fd=found.parent)
            self._tar.addfile(member)
        elif write.kind == "fifo":
            member.type = tarfile.FIFOTYPE
            self._tar.addfile(member)
        else:
            left_out = "a layer cannot hold it"
        # A tar is made of its members' headers as long as it is open.
        self._tar.members.clear()  # type: ignore[attr-defined]
        return write if left_out is None else replace(write, left_out=left_out)

    def _file(self, member: tarfile.TarInfo, found: _Found) -> str | None:
        info = found.info
        known = self._links.get(info.st_ino)
        if known is not None:
            member.type, member.linkname = tarfile.LNKTYPE, known
            self._tar.addfile(member)
            return None
        if info.st_size > self._left:
            return "it is larger than what may be kept"
        fd = os.open(found.name, _READ, dir_fd=found.parent)
        with os.fdopen(fd, "rb") as file:
            member.size = info.st_size
            self._tar.addfile(member, file)
        self._left -= info.st_size
        if info.st_nlink > 1:
            self._links[info.st_ino] = member.name
        return None
