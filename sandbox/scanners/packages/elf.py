"""Where an ELF file has its sections and its memory: no more than what is needed to find build information.

Format: System V ABI, "Object Files". Every number is the file's own claim and is followed within bounds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from sandbox.scanners.facts import IncompleteError
from sandbox.scanners.packages.reading import exactly

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
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Elf:
    """What is known of an ELF file: those of its sections that were asked for (``has_sections``: whether it
    has any at all), and where it says which of its parts are loaded."""

    order: str
    wide: bool
    has_sections: bool
    sections: dict[bytes, Part]
    segments_at: int
    segment_size: int
    segment_count: int


def parse(content: BinaryIO, wanted: tuple[bytes, ...]) -> Elf | None:
    """An ELF file, with its sections of these names; None for what is none.

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
        segments_at, table_at = struct.unpack_from(order + "QQ", start, 32)
        counts = struct.unpack_from(order + "HHHHH", start, 54)
    else:
        segments_at, table_at = struct.unpack_from(order + "II", start, 28)
        counts = struct.unpack_from(order + "HHHHH", start, 42)
    segment_size, segment_count, size, count, names_at = counts
    form = struct.Struct(order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII"))
    sections: dict[bytes, Part] = {}
    if table_at and count:
        if size != form.size or names_at >= count:
            raise IncompleteError("the ELF file's section headers cannot be")
        sections = _sections(content, exactly(content, table_at, size * count), form, names_at, wanted)
    return Elf(order, wide, bool(table_at and count), sections, segments_at, segment_size, segment_count)


def loaded(content: BinaryIO, elf: Elf) -> list[Part]:
    """The parts of the file that are in memory when it runs.

    Raises:
        IncompleteError: its program headers lie.
    """
    form = struct.Struct(elf.order + ("IIQQQQQQ" if elf.wide else "IIIIIIII"))
    if not elf.segments_at or not elf.segment_count:
        return []
    if elf.segment_size != form.size or elf.segment_count > MAX_SEGMENTS:
        raise IncompleteError("the ELF file's program headers cannot be")
    parts: list[Part] = []
    for fields in form.iter_unpack(exactly(content, elf.segments_at, form.size * elf.segment_count)):
        if elf.wide:
            kind, flags, at, address, _, in_file, *_ = fields
        else:
            kind, at, address, _, in_file, _, flags, _ = fields
        if kind == LOAD:
            parts.append(Part(at, in_file, address, writable=bool(flags & WRITABLE)))
    return parts


def _sections(
    content: BinaryIO, table: bytes, form: struct.Struct, names_at: int, wanted: tuple[bytes, ...]
) -> dict[bytes, Part]:
    _, _, _, _, at, size, *_ = form.unpack_from(table, names_at * form.size)
    names = exactly(content, at, min(size, MAX_NAMES_BYTES))
    # Most programs have none of them: their sections are not gone through.
    places = {names.find(b"\0" + name + b"\0") + 1: name for name in wanted}
    sections: dict[bytes, Part] = {}
    if any(places):
        for name_at, kind, _, address, at, size, *_ in form.iter_unpack(table):
            if name_at and kind != NOBITS and (name := places.get(name_at)):
                sections[name] = Part(at, size, address)
    return sections
