"""Opens what is packed, one level deep: gzip and zip. A tar needs no opening: it is searched as it is.

Nothing is unpacked to anywhere: members are streams, read within a budget. Only what deflate packed is
opened; other methods may need memory without bound.
"""

from __future__ import annotations

# Names in a zip are of this code page where nothing else is said; a confined process could not load it.
import encodings.cp437  # noqa: F401
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from isal import isal_zlib

from sandbox.scanners.facts import IncompleteError

MAX_DIRECTORY_BYTES = 8 * 1024 * 1024
MAX_MEMBERS = 50_000
_PIECE_BYTES = 256 * 1024
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, struct.error, NotImplementedError)
_END = struct.Struct("<4s4H2LH")
_LOCATOR_BYTES = 20


class Readable(Protocol):
    """What is read in pieces."""

    def read(self, size: int, /) -> bytes: ...


class Budget:
    """Bytes that may still come out of archives of one layer, and of one file."""

    def __init__(self, layer_bytes: int, file_bytes: int) -> None:
        self._layer_left, self._file_bytes = layer_bytes, file_bytes
        self._file_left = 0

    def begin(self) -> None:
        """A new file."""
        self._file_left = self._file_bytes

    def take(self, amount: int) -> None:
        """
        Raises:
            IncompleteError: more has come out than there may.
        """
        self._file_left -= amount
        self._layer_left -= amount
        if self._layer_left < 0:
            raise IncompleteError("the archives of this layer hold more than may be opened")
        if self._file_left < 0:
            raise IncompleteError(f"the archive holds more than the {self._file_bytes} bytes that are opened")


def members(content: BinaryIO, name: str, budget: Budget) -> Iterator[tuple[str, Readable]]:
    """Each member's name and its bytes, where ``content`` is an archive; nothing where it is none. A
    member must be read before the next.

    Raises:
        IncompleteError: it is an archive, but not to be opened, or not to its end.
    """
    content.seek(0)
    magic = content.read(4)
    content.seek(0)
    budget.begin()
    if magic[:3] == b"\x1f\x8b\x08":
        yield name.removesuffix(".gz").removesuffix(".tgz"), _Inflated(content, budget)
    elif magic in (b"PK\x03\x04", b"PK\x05\x06"):
        yield from _zip(content, budget)


class _Inflated:
    """What a gzip file holds, all of its members."""

    def __init__(self, content: BinaryIO, budget: Budget) -> None:
        self._content, self._budget = content, budget
        self._inflate = isal_zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._packed = b""

    def read(self, size: int, /) -> bytes:
        while True:
            if self._inflate.eof:
                self._packed = self._inflate.unused_data or self._content.read(_PIECE_BYTES)
                # Padding after the last member is no error.
                if self._packed[:2] != b"\x1f\x8b":
                    return b""
                self._inflate = isal_zlib.decompressobj(zlib.MAX_WBITS | 16)
            packed = self._packed or self._content.read(_PIECE_BYTES)
            try:
                plain = self._inflate.decompress(packed, size)
            except isal_zlib.error as error:  # type: ignore[misc]
                raise IncompleteError(f"it is no good gzip file: {error}") from error
            self._packed = self._inflate.unconsumed_tail
            if plain:
                self._budget.take(len(plain))
                return plain
            if not packed and not self._inflate.eof:
                raise IncompleteError("the gzip file ends before its end")


def _zip(content: BinaryIO, budget: Budget) -> Iterator[tuple[str, Readable]]:
    _check_directory(content)
    try:
        with zipfile.ZipFile(content) as archive:
            for entry in archive.infolist():
                # The library asks for the last letter of a name; there may be none.
                if not entry.file_size or (entry.filename and entry.is_dir()):
                    continue
                if (
                    entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                    or entry.flag_bits & 1
                ):
                    raise IncompleteError("the zip file is encrypted or packed in a way that is not opened")
                with archive.open(entry) as member:
                    yield entry.filename, _Counted(member, budget)
    except _BROKEN as error:
        raise IncompleteError(f"it is no good zip file: {error}") from error


class _Counted:
    def __init__(self, member: Readable, budget: Budget) -> None:
        self._member, self._budget = member, budget

    def read(self, size: int, /) -> bytes:
        try:
            plain = self._member.read(size)
        except _BROKEN as error:
            raise IncompleteError(f"it is no good zip file: {error}") from error
        self._budget.take(len(plain))
        return plain


def _check_directory(content: BinaryIO) -> None:
    """The library reads the whole directory into memory; how large it is, is said at the end of the file."""
    end = content.seek(0, os.SEEK_END)
    start = content.seek(max(0, end - _END.size - 0xFFFF - _LOCATOR_BYTES))
    tail = content.read()
    assert start + len(tail) == end
    at = len(tail) - _END.size
    if at < 0 or tail[at : at + 4] != b"PK\x05\x06" or tail[-2:] != b"\0\0":
        at = tail.rfind(b"PK\x05\x06")
    content.seek(0, io.SEEK_SET)
    if at < 0 or len(tail) - at < _END.size:
        raise IncompleteError("the zip file ends before its end")
    _, _, _, _, count, size, _, _ = _END.unpack_from(tail, at)
    has_64 = at >= _LOCATOR_BYTES and tail[at - _LOCATOR_BYTES :].startswith(b"PK\x06\x07")
    if has_64 or count > MAX_MEMBERS or size > MAX_DIRECTORY_BYTES:
        raise IncompleteError(f"the zip file has more than {MAX_MEMBERS} members")
