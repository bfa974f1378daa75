"""Zip archives that may lie: the directory is walked entry by entry, and what is read has a budget.

Format: PKWARE's APPNOTE 6.3, stored and deflated entries; ZIP64; something in front of the archive, as a
start script is, does not hurt. The standard library would take a whole directory into memory first.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from sandbox.scanners.facts import IncompleteError
from sandbox.scanners.packages.reading import exactly

MAX_DIRECTORY_BYTES = 16 * 1024 * 1024
TAIL_BYTES = 22 + 65_535
STORED, DEFLATED = 0, 8
ENCRYPTED = 1
PIECE_BYTES, INFLATED_BYTES = 16 * 1024, 256 * 1024

_end = struct.Struct("<4s4H2IH")
_locator = struct.Struct("<4sIQI")
_end64 = struct.Struct("<4sQ2H2I4Q")
_entry = struct.Struct("<4s6H3I5H2I")
_local = struct.Struct("<4s5H3I2H")


class NoArchiveError(IncompleteError):
    """Its directory cannot be one: nobody could list it."""


@dataclass(slots=True)
class Budget:
    """What reading one file of a layer may still cost, archives in archives included."""

    inflated_bytes: int
    entries: int
    archives: int

    @property
    def spent(self) -> bool:
        return min(self.inflated_bytes, self.entries, self.archives) < 0

    def take_entry(self) -> None:
        self.entries -= 1
        if self.entries < 0:
            raise IncompleteError("it has too many entries")

    def take_archive(self) -> None:
        self.archives -= 1
        if self.archives < 0:
            raise IncompleteError("it has too many archives in it")

    def take_bytes(self, count: int) -> None:
        self.inflated_bytes -= count
        if self.inflated_bytes < 0:
            raise IncompleteError("what is read of it would be too large when inflated")


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of the directory; ``size`` is only what the directory claims."""

    name: str
    method: int
    flags: int
    packed: int
    size: int
    offset: int


def members(content: BinaryIO, budget: Budget) -> Iterator[Member]:
    """What the directory lists, one after the other.

    Raises:
        NoArchiveError: it is no archive, or its directory cannot be.
        IncompleteError: it is larger than the budget.
    """
    start, size, shift = _directory(content)
    directory = exactly(content, start, size)
    at = 0
    while at + _entry.size <= size:
        fields = _entry.unpack_from(directory, at)
        if fields[0] != b"PK\1\2":
            raise NoArchiveError("its directory holds what is no entry")
        budget.take_entry()
        flags, method = fields[3], fields[4]
        packed, unpacked, name_size, extra_size, comment_size = fields[8:13]
        name_at = at + _entry.size
        extra_at = name_at + name_size
        name = directory[name_at:extra_at].decode("utf-8", "replace")
        sizes = _wide(directory[extra_at : extra_at + extra_size], unpacked, packed, fields[16])
        at = extra_at + extra_size + comment_size
        if not name.endswith("/"):
            yield Member(name, method, flags, sizes[1], sizes[0], sizes[2] + shift)


def inflate(content: BinaryIO, member: Member, limit: int, budget: Budget) -> io.BytesIO:
    """The bytes of an entry, held once, whatever its directory claims of them.

    Raises:
        IncompleteError: more than ``limit`` bytes, encrypted, packed in another way, or broken.
    """
    if member.flags & ENCRYPTED or member.method not in (STORED, DEFLATED):
        raise IncompleteError(f"{member.name[:200]!a} is encrypted, or packed in a way that is not read")
    header = _local.unpack(exactly(content, member.offset, _local.size))
    if header[0] != b"PK\3\4":
        raise IncompleteError(f"{member.name[:200]!a} is not where the directory says")
    content.seek(header[9] + header[10], 1)
    engine = zlib.decompressobj(-15) if member.method == DEFLATED else None
    left = member.packed
    found = io.BytesIO()
    while left > 0 and not (engine and engine.eof):
        piece = content.read(min(left, PIECE_BYTES))
        if not piece:
            raise IncompleteError(f"the file ends within {member.name[:200]!a}")
        left -= len(piece)
        while piece:
            out = engine.decompress(piece, INFLATED_BYTES) if engine else piece
            piece = engine.unconsumed_tail if engine else b""
            budget.take_bytes(len(out))
            found.write(out)
            if found.tell() > limit:
                raise IncompleteError(f"{member.name[:200]!a} has more than the {limit} bytes that are read")
    if engine and not engine.eof:
        raise IncompleteError(f"{member.name[:200]!a} ends too early")
    found.seek(0)
    return found


def _directory(content: BinaryIO) -> tuple[int, int, int]:
    """Where the directory is, its size, and how far all offsets are off."""
    total = content.seek(0, 2)
    tail_at = max(0, total - TAIL_BYTES)
    tail = exactly(content, tail_at, total - tail_at)
    found = tail.rfind(b"PK\5\6")
    if found < 0 or found + _end.size > len(tail):
        raise NoArchiveError("it is no zip archive, or its end is missing")
    size, offset = _end.unpack_from(tail, found)[5:7]
    end = tail_at + found
    locator_at = found - _locator.size
    if locator_at >= 0 and tail[locator_at : locator_at + 4] == b"PK\6\7":
        end64 = _locator.unpack_from(tail, locator_at)[2]
        record = exactly(content, end64, _end64.size)
        if record[:4] == b"PK\6\6":
            size, offset = _end64.unpack(record)[8:10]
            end = end64
    if size > MAX_DIRECTORY_BYTES:
        raise IncompleteError(f"its directory is larger than {MAX_DIRECTORY_BYTES // 2**20} MiB")
    start = end - size
    if start < 0:
        raise NoArchiveError("its directory begins before the file")
    return start, size, start - offset


def _wide(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """The three numbers, from the ZIP64 field where they do not fit."""
    numbers = [size, packed, offset]
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            field = extra[at + 4 : at + 4 + length]
            for index, number in enumerate(numbers):
                if number == 0xFFFFFFFF and len(field) >= 8:
                    numbers[index] = int.from_bytes(field[:8], "little")
                    field = field[8:]
            break
        at += 4 + length
    return numbers[0], numbers[1], numbers[2]
