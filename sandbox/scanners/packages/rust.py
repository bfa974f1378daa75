"""Rust programs that were built with cargo-auditable: the crates that went into them.

Format: cargo-auditable's PARSING.md: a section ``.dep-v0``, which is JSON compressed by zlib. A program built
without it says nothing of its crates.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from sandbox.scanners.facts import FoundPackage, IncompleteError
from sandbox.scanners.packages.elf import Elf
from sandbox.scanners.packages.reading import exactly

SECTION = b".dep-v0"
MAX_COMPRESSED_BYTES = 4 * 1024 * 1024
MAX_BYTES = 4 * 1024 * 1024


def crates_of(content: BinaryIO, elf: Elf) -> Iterator[FoundPackage]:
    """Each crate that the program runs with; what was only needed to build it is left out."""
    part = elf.sections.get(SECTION)
    if part is None:
        return
    if part.size > MAX_COMPRESSED_BYTES:
        raise IncompleteError(f"its list of crates is larger than {MAX_COMPRESSED_BYTES // 2**20} MiB")
    engine = zlib.decompressobj()
    try:
        data = engine.decompress(exactly(content, part.offset, part.size), MAX_BYTES)
    except zlib.error as error:
        raise IncompleteError("its list of crates is not compressed as it should be") from error
    if not engine.eof:
        raise IncompleteError(f"its list of crates is cut off, or larger than {MAX_BYTES // 2**20} MiB")
    try:
        said = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise IncompleteError("its list of crates is no JSON") from error
    crates = said.get("packages") if isinstance(said, dict) else None
    if not isinstance(crates, list):
        raise IncompleteError("its list of crates is none")
    for crate in crates:
        if not isinstance(crate, dict):
            raise IncompleteError("a crate in its list is none")
        name, version = crate.get("name"), crate.get("version")
        if not isinstance(name, str) or not isinstance(version, str):
            raise IncompleteError("a crate in its list has no name or no version")
        if crate.get("kind", "runtime") == "runtime":
            yield FoundPackage(kind="rust", name=name, version=version)
