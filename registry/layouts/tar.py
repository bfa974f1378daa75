"""A plain tar as the files of a layout.

It is indexed once and never unpacked: no link or name in it can reach a file of this host.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from typing import IO, cast

from registry.layouts.errors import LayoutError
from registry.layouts.members import MEMBERS_MAX, Reader, safe_path
from registry.layouts.tarheaders import HEADER_MAX_BYTES, has_digit_run


class TarMembers:
    """The regular files of an open tar, and what links inside of it mean; ``name`` is what messages call it.
    It closes the file."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self._file = file
        self._members = _index(file, name)
        size = os.fstat(file.fileno()).st_size
        for path, (offset, length) in self._members.items():
            if offset + length > size:
                raise LayoutError("missing", f"{name} is cut off inside {path[:100]}")

    def size(self, path: str) -> int | None:
        """As :class:`Members` says."""
        found = self._members.get(posixpath.normpath(path))
        return None if found is None else found[1]

    def open(self, path: str) -> Reader:
        """As :class:`Members` says."""
        found = self._members.get(posixpath.normpath(path))
        if found is None:
            raise LayoutError("missing", f"{self.name} has no {path[:100]}")
        return _Part(self._file.fileno(), *found)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Part:
    """A part of a file, which others read at the same time."""

    def __init__(self, fd: int, offset: int, left: int) -> None:
        self._fd = fd
        self._offset = offset
        self._left = left

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        piece = os.pread(self._fd, min(size, self._left), self._offset)
        self._offset += len(piece)
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        """The file is not its own."""


class _Headers:
    """As much of a file as ``tarfile`` needs for the headers of members, and no more at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._bytes = 0

    def read(self, size: int) -> bytes:
        """The next bytes; ``tarfile`` seeks to the headers of each member, so that the count is for one."""
        self._bytes += size
        if size < 0 or self._bytes > HEADER_MAX_BYTES:
            raise ValueError("extended headers without end")
        data = self._file.read(size)
        if has_digit_run(data):
            raise ValueError("too many digits in a header")
        return data

    def seek(self, offset: int) -> int:
        """Go to an offset from the start."""
        self._bytes = 0
        return self._file.seek(offset)

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._file.tell()


def _index(file: IO[bytes], name: str) -> dict[str, tuple[int, int]]:
    members: dict[str, tuple[int, int]] = {}
    links: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", _Headers(file)), mode="r:") as archive:
            for count, member in enumerate(archive):
                if count >= MEMBERS_MAX:
                    raise LayoutError("invalid", f"{name} has more than {MEMBERS_MAX} members")
                path = safe_path(member.name, name)
                if member.isreg() and not member.issparse() and member.size >= 0:
                    members[path] = (member.offset_data, member.size)
                elif member.issym():
                    # Old versions of docker save a layer once and link to it.
                    links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
                elif member.islnk():
                    links[path] = posixpath.normpath(member.linkname)
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        if members and any(word in str(error) for word in ("unexpected end", "truncated")):
            raise LayoutError("missing", f"{name} is cut off") from None
        raise LayoutError(
            "missing", f"{name} is not a plain tar of an OCI layout or of docker save"
        ) from None
    for path, target in links.items():
        if target in members:
            members.setdefault(path, members[target])
    return members
