"""Programs and libraries that say themselves what went into them: those of Go and of Rust."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from sandbox.scanners.facts import Entry
from sandbox.scanners.packages import elf, go, rust
from sandbox.scanners.packages.reading import Fact, Reader

MIN_BYTES = 1024


def wants(entry: Entry) -> bool:
    """Whether it can be a program or a library, going by its name, mode and size."""
    if entry.kind != "file" or entry.size_bytes < MIN_BYTES:
        return False
    return bool(entry.mode & 0o111) or ".so" in entry.path.rpartition("/")[2]


def read(_entry: Entry, content: BinaryIO) -> Iterator[Fact]:
    """What it was built with; nothing for what is no ELF file, or does not say."""
    program = elf.parse(content, (go.SECTION, rust.SECTION))
    if program is not None:
        yield from go.modules_of(content, program)
        yield from rust.crates_of(content, program)


PROGRAMS = Reader("programs", 1, wants, read)
