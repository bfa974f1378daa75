"""ELF files and Go's build information in them, written from their formats."""

from __future__ import annotations

import struct

FOOT = 0x1000
"""Where the one segment begins, in the file; in memory ``BASE`` further up."""
BASE = 0x400000


def make_elf(
    parts: dict[bytes, bytes], *, wide: bool = True, order: str = "<", headers: bool = True
) -> bytes:
    """A program with one writable segment that holds these sections one after the other."""
    names = b"\0" + b"".join(name + b"\0" for name in parts) + b".shstrtab\0"
    data = bytearray()
    placed = []
    for name, part in parts.items():
        data += bytes(-len(data) % 16)
        placed.append((names.index(b"\0" + name + b"\0") + 1, 1, FOOT + len(data), len(part)))
        data += part
    placed.append((names.index(b"\0.shstrtab\0") + 1, 3, FOOT + len(data), len(names)))
    size = len(data)
    data += names
    sections = [_section(0, 0, 0, 0, wide=wide, order=order)]
    sections += [_section(*where, wide=wide, order=order) for where in placed]
    table = FOOT + len(data)
    if wide:
        segment = struct.pack(order + "IIQQQQQQ", 1, 6, FOOT, BASE + FOOT, 0, size, size, 0x1000)
        form, header_size = order + "HHIQQQIHHHHHH", 64
    else:
        segment = struct.pack(order + "IIIIIIII", 1, FOOT, BASE + FOOT, 0, size, size, 6, 0x1000)
        form, header_size = order + "HHIIIIIHHHHHH", 52
    count = len(sections) if headers else 0
    fields = (2, 62, 1, BASE, header_size, table if headers else 0, 0, header_size, len(segment), 1)
    rest = (len(sections[0]), count, count - 1 if headers else 0)
    start = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    start += struct.pack(form, *fields, *rest) + segment
    return start.ljust(FOOT, b"\0") + bytes(data) + (b"".join(sections) if headers else b"")


def _section(name: int, kind: int, offset: int, size: int, *, wide: bool, order: str) -> bytes:
    form = order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII")
    return struct.pack(form, name, kind, 0, BASE + offset if offset else 0, offset, size, 0, 0, 1, 0)


def go_modules(text: str) -> bytes:
    """What the linker keeps of the modules, between its sixteen bytes before and after."""
    return bytes(range(0xE0, 0xF0)) + text.encode() + bytes(range(0xE0, 0xF0))


def go_inline(version: str, modules: bytes) -> bytes:
    """Build information since Go 1.18: both strings stand in it."""
    return b"\xff Go buildinf:\x08\x02" + bytes(16) + _counted(version.encode()) + _counted(modules)


def go_pointed(version: str, modules: bytes, *, size: int = 8, order: str = "<") -> bytes:
    """Build information before: pointers to strings, which follow it here. It must be the first section."""
    form = order + ("QQ" if size == 8 else "II")
    first = BASE + FOOT + 32
    head = b"\xff Go buildinf:" + bytes([size, 1 if order == ">" else 0])
    head += struct.pack(form, first, first + 2 * size).ljust(16, b"\0")
    text = first + 4 * size
    strings = struct.pack(form, text, len(version)) + struct.pack(form, text + len(version), len(modules))
    return head + strings + version.encode() + modules


def _counted(text: bytes) -> bytes:
    size, out = len(text), b""
    while size >= 0x80:
        out += bytes([size & 0x7F | 0x80])
        size >>= 7
    return out + bytes([size]) + text
