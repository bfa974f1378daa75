"""Where an ELF file has its sections and its memory: no more than what is needed to find build information.

Format: System V ABI, "Object Files". Every number is the file's own claim and is followed within bounds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from sandbox.scanners.facts import IncompleteError
from sandbox.scanners.packages.reading import exactly

MAX_SECTIONS = 65_535
MAX_SEGMENTS = 1_000
MAX_NAMES_BYTES = 1024 * 1024
NOBITS = 8
LOAD = 1
WRITABLE = 2


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the file, and the address that it has in memory."""

    offset: int
    size: int
    address: int


@dataclass(frozen=True, slots=True)
class Elf:
    """Its byte order as struct writes it, the size of its pointers, and where things are."""

    order: str
    pointer: int
    sections: dict[bytes, Part]
    loaded: tuple[Part, ...]
    writable: tuple[Part, ...]


def parse(content: BinaryIO) -> Elf | None:
    """The parts of an ELF file; None for what is none.

    Raises:
        IncompleteError: it says it is one, and its headers lie.
    """
    start = content.read(64)
    if len(start) < 52 or start[:4] != b"\x7fELF" or start[4] not in (1, 2) or start[5] not in (1, 2):
        return None
    order = "<" if start[5] == 1 else ">"
    wide = start[4] == 2
    if wide and len(start) < 64:
        return None
    if wide:
        segments_at, sections_at = struct.unpack_from(order + "QQ", start, 32)
        counts = struct.unpack_from(order + "HHHHH", start, 54)
    else:
        segments_at, sections_at = struct.unpack_from(order + "II", start, 28)
        counts = struct.unpack_from(order + "HHHHH", start, 42)
    segment_size, segment_count, section_size, section_count, names_at = counts
    loaded, writable = _segments(content, segments_at, segment_size, segment_count, order=order, wide=wide)
    sections = _sections(
        content, sections_at, section_size, section_count, names_at=names_at, order=order, wide=wide
    )
    return Elf(order, 8 if wide else 4, sections, loaded, writable)


def _segments(
    content: BinaryIO, offset: int, size: int, count: int, *, order: str, wide: bool
) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    form = struct.Struct(order + ("IIQQQQQQ" if wide else "IIIIIIII"))
    if not offset or not count:
        return (), ()
    if size != form.size or count > MAX_SEGMENTS:
        raise IncompleteError("the ELF file's program headers cannot be")
    loaded: list[Part] = []
    writable: list[Part] = []
    for fields in form.iter_unpack(exactly(content, offset, size * count)):
        if wide:
            kind, flags, at, address, _, in_file, *_ = fields
        else:
            kind, at, address, _, in_file, _, flags, _ = fields
        if kind == LOAD:
            loaded.append(Part(at, in_file, address))
            if flags & WRITABLE:
                writable.append(Part(at, in_file, address))
    return tuple(loaded), tuple(writable)


def _sections(
    content: BinaryIO, offset: int, size: int, count: int, *, names_at: int, order: str, wide: bool
) -> dict[bytes, Part]:
    form = struct.Struct(order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII"))
    if not offset:
        return {}
    if size != form.size or count > MAX_SECTIONS or names_at >= max(count, 1):
        raise IncompleteError("the ELF file's section headers cannot be")
    headers = list(form.iter_unpack(exactly(content, offset, size * count)))
    if not headers:
        return {}
    names = exactly(content, headers[names_at][4], min(headers[names_at][5], MAX_NAMES_BYTES))
    sections: dict[bytes, Part] = {}
    for name_at, kind, _, address, at, length, *_ in headers:
        name = names[name_at : name_at + 32].partition(b"\0")[0]
        if kind != NOBITS and name:
            sections[name] = Part(at, length, address)
    return sections
