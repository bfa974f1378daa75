"""Where the content of an entry lies while modules look at it: memory, or one file without a name."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from sandbox.images.layerstream import BLOCK_BYTES, LayerReader
from sandbox.images.tarpolicy import Entry as Member
from sandbox.images.tarpolicy import LayerError

IN_MEMORY_BYTES = 2 * 1024 * 1024
"""What is larger goes to the file."""


@dataclass(frozen=True, slots=True)
class Data:
    """The content of a file that stands next in the stream, up to its offset ``end``."""

    member: Member
    reader: LayerReader
    end: int


@dataclass(slots=True)
class Spool:
    """Contents one behind the other in the file ``fd``, which is nobody else's. What is kept stays until the
    layer has been read; the others take the place of the one before."""

    fd: int
    kept_bytes: int = 0

    def content(self, source: Data) -> BinaryIO:
        """The content of a file, from the stream, at its start and good until the next one.

        Raises:
            LayerError: the layer ends inside it.
        """
        if source.member.size <= IN_MEMORY_BYTES:
            data = bytearray(source.member.size)
            for offset, piece in _pieces(source):
                data[offset : offset + len(piece)] = piece
            return io.BytesIO(data)
        return self._region(source)

    def kept(self, source: Data) -> BinaryIO:
        """As :meth:`content`, good for as long as the spool is."""
        region = self._region(source)
        self.kept_bytes += source.member.size
        return region

    def _region(self, source: Data) -> BinaryIO:
        os.ftruncate(self.fd, self.kept_bytes)
        for offset, piece in _pieces(source):
            _write_at(self.fd, piece, self.kept_bytes + offset)
        os.ftruncate(self.fd, self.kept_bytes + source.member.size)
        region = _Region(self.fd, self.kept_bytes, source.member.size)
        return cast("BinaryIO", io.BufferedReader(region, 64 * 1024))


class _Region(io.RawIOBase):
    """``size`` bytes of a file from ``start`` on, to be read."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        super().__init__()
        self._fd, self._start, self._size, self._at = fd, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the start")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._size - self._at))
        count = os.preadv(self._fd, [memoryview(buffer)[:wanted]], self._start + self._at) if wanted else 0
        self._at += count
        return count


def _pieces(source: Data) -> Iterator[tuple[int, memoryview]]:
    """The data of a member with the offsets at which they stand in the file; holes are left out."""
    member, reader = source.member, source.reader
    runs = ((0, member.size),) if member.sparse is None else member.sparse
    if sum(length for _, length in runs) > source.end - reader.tell():
        raise LayerError("layer-invalid", "has more data than follows")
    for start, length in runs:
        done = 0
        while done < length:
            piece = reader.read_some(min(length - done, BLOCK_BYTES))
            if not piece:
                raise LayerError("layer-invalid", "is cut off: the layer ends inside it")
            yield start + done, piece
            done += len(piece)


def _write_at(fd: int, piece: memoryview, offset: int) -> None:
    while piece:
        count = os.pwrite(fd, piece, offset)
        piece, offset = piece[count:], offset + count
