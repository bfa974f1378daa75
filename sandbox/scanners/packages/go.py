"""Go programs: the modules that went into them, as the linker wrote it down.

Format: debug/buildinfo of Go's standard library. Since Go 1.18 the two strings stand in the file itself,
before there were pointers to them. Stripped programs have it too; packed ones (UPX) have nothing to be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from sandbox.scanners.facts import FoundPackage, IncompleteError
from sandbox.scanners.packages.elf import Elf, loaded
from sandbox.scanners.packages.reading import exactly

MAGIC = b"\xff Go buildinf:"
SECTION = b".go.buildinfo"
INLINE = 2
BIG_ENDIAN = 1
MAX_SEARCHED_BYTES = 1024 * 1024
MAX_STRING_BYTES = 4 * 1024 * 1024
UNKNOWN = "(devel)"
"""What Go writes for a version that it does not know."""

_version = re.compile(r"go([0-9][0-9A-Za-z.]*)")


def modules_of(content: BinaryIO, elf: Elf) -> Iterator[FoundPackage]:
    """The program's own module, those it was built with, and the standard library as ``stdlib``; nothing if
    Go has not built it."""
    where = _find(content, elf)
    if where is None:
        return
    header = exactly(content, where, 32)
    if header[15] & INLINE:
        version, after = _inline(content, where + 32)
        modules, _ = _inline(content, after)
    else:
        order = ">" if header[15] & BIG_ENDIAN else "<"
        if header[14] not in (4, 8):
            raise IncompleteError("the size of a pointer in its build information cannot be")
        pointers = [_number(header[at : at + header[14]], order=order) for at in (16, 16 + header[14])]
        version, modules = (_pointed(content, elf, pointer, header[14], order) for pointer in pointers)
    found = _version.match(version.decode("utf-8", "replace"))
    yield FoundPackage(kind="go", name="stdlib", version=found[1] if found else UNKNOWN)
    yield from _modules(modules)


def _modules(text: bytes) -> Iterator[FoundPackage]:
    # Sixteen bytes stand around it, so that a tool finds it without knowing the format.
    if len(text) >= 33 and text[-17:-16] == b"\n":
        text = text[16:-16]
    before: tuple[str, str] | None = None
    for line in text.decode("utf-8", "replace").split("\n"):
        kind, *words = line.split("\t")
        if kind == "=>" and before is not None and words:
            # A folder in its place has no version: what is in it is unknown, but still goes by the name.
            local = words[0].startswith(("./", "../", "/"))
            replaced = (words[0], words[1] if len(words) > 1 else "")
            before = (before[0], UNKNOWN) if local else replaced
            continue
        if before is not None:
            yield _module(*before)
            before = None
        if kind in ("mod", "dep") and words and words[0]:
            before = (words[0], words[1] if len(words) > 1 else "")
    if before is not None:
        yield _module(*before)


def _module(name: str, version: str) -> FoundPackage:
    return FoundPackage(kind="go", name=name, version=version or UNKNOWN)


def _find(content: BinaryIO, elf: Elf) -> int | None:
    if elf.has_sections and SECTION not in elf.sections:
        return None
    # Without any sections it is searched for, as Go does, in what the program may write to.
    parts = [elf.sections[SECTION]] if elf.has_sections else loaded(content, elf)
    for part in parts:
        if elf.has_sections or part.writable:
            content.seek(min(part.offset, 2**62))
            data = content.read(min(part.size, MAX_SEARCHED_BYTES))
            at = data.find(MAGIC)
            while at > 0 and at % 16:
                at = data.find(MAGIC, at + 1)
            if at >= 0:
                return part.offset + at
    if elf.has_sections:
        raise IncompleteError("its section of build information holds none")
    return None


def _inline(content: BinaryIO, offset: int) -> tuple[bytes, int]:
    content.seek(min(offset, 2**62))
    start = content.read(10)
    used = next((at for at, byte in enumerate(start, 1) if byte < 0x80), 0)
    if not used:
        raise IncompleteError("a length in its build information does not end")
    size = sum((byte & 0x7F) << (7 * at) for at, byte in enumerate(start[:used]))
    return _string(content, offset + used, size), offset + used + size


def _pointed(content: BinaryIO, elf: Elf, pointer: int, size: int, order: str) -> bytes:
    header = exactly(content, _offset(content, elf, pointer, 2 * size), 2 * size)
    address, length = (_number(header[at : at + size], order=order) for at in (0, size))
    return _string(content, _offset(content, elf, address, length), length) if length else b""


def _offset(content: BinaryIO, elf: Elf, address: int, size: int) -> int:
    for part in loaded(content, elf):
        if part.address <= address and address + size <= part.address + part.size:
            return part.offset + address - part.address
    raise IncompleteError("an address in its build information lies nowhere in the file")


def _string(content: BinaryIO, offset: int, size: int) -> bytes:
    if size > MAX_STRING_BYTES:
        raise IncompleteError(f"its build information is larger than {MAX_STRING_BYTES // 2**20} MiB")
    return exactly(content, offset, size)


def _number(data: bytes, *, order: str) -> int:
    return int.from_bytes(data, "little" if order == "<" else "big")
