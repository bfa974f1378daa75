"""A zip as the files of a layout, read in place and never unpacked."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from typing import IO

from registry.layouts.errors import LayoutError
from registry.layouts.members import MEMBERS_MAX, Reader, safe_path

_DIRECTORY_MAX_BYTES = 32 * 1024 * 1024
_END, _END_BYTES = b"PK\5\6", 22
_END64, _LOCATOR64, _LOCATOR64_BYTES = b"PK\6\6", b"PK\6\7", 20
_COMMENT_MAX_BYTES = 65_535
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Others need as much memory as the archive says."""
_ENCRYPTED = 0x1


class ZipMembers:
    """The regular files of an open zip; ``name`` is what messages call it. It closes the file."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self._file = file
        _require_small_directory(file, name)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            raise LayoutError("missing", f"{name} is no zip, or cut off") from None
        self._members = dict(self._found())

    def _found(self) -> list[tuple[str, zipfile.ZipInfo]]:
        listed = self._zip.infolist()
        if len(listed) > MEMBERS_MAX:
            raise LayoutError("invalid", f"{self.name} has more than {MEMBERS_MAX} members")
        found = []
        for member in listed:
            path = safe_path(member.filename, self.name)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir() or kind not in (0, stat.S_IFREG):
                continue  # a link's bytes are a path, and nothing here follows it
            if member.flag_bits & _ENCRYPTED or member.compress_type not in _METHODS:
                raise LayoutError(
                    "invalid", f"{path[:100]} in {self.name} is encrypted, or neither stored nor deflated"
                )
            found.append((path, member))
        return found

    def size(self, path: str) -> int | None:
        """As :class:`Members` says."""
        found = self._members.get(path)
        return None if found is None else found.file_size

    def open(self, path: str) -> Reader:
        """As :class:`Members` says."""
        found = self._members.get(path)
        if found is None:
            raise LayoutError("missing", f"{self.name} has no {path[:100]}")
        try:
            return _Part(self._zip.open(found), f"{path[:100]} of {self.name}")
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
            raise LayoutError("mismatch", f"{path[:100]} of {self.name} is damaged") from None

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
        self._file.close()


class _Part:
    """A member, whose damage is told as that of a layout."""

    def __init__(self, member: IO[bytes], name: str) -> None:
        self._member = member
        self._name = name

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        try:
            return self._member.read(size)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError):
            raise LayoutError("mismatch", f"{self._name} is damaged") from None

    def close(self) -> None:
        """Close the member."""
        self._member.close()


def _require_small_directory(file: IO[bytes], name: str) -> None:
    """``zipfile`` reads the list of members whole, however long it says that it is (APPNOTE.TXT, 4.3.16)."""
    size = os.fstat(file.fileno()).st_size
    tail_bytes = min(size, _END_BYTES + _COMMENT_MAX_BYTES + _LOCATOR64_BYTES)
    tail = os.pread(file.fileno(), tail_bytes, size - tail_bytes)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise LayoutError("missing", f"{name} is no zip, or cut off")
    directory_bytes = struct.unpack_from("<L", tail, at + 12)[0]
    locator = tail[max(at - _LOCATOR64_BYTES, 0) : at]
    if len(locator) == _LOCATOR64_BYTES and locator.startswith(_LOCATOR64):
        end64 = os.pread(file.fileno(), 56, min(struct.unpack_from("<Q", locator, 8)[0], size))
        if len(end64) == 56 and end64.startswith(_END64):
            directory_bytes = struct.unpack_from("<Q", end64, 40)[0]
    if directory_bytes > _DIRECTORY_MAX_BYTES:
        raise LayoutError("invalid", f"{name} has a list of members of {directory_bytes} bytes")
