"""What all readers share: bounds, and how facts are gathered so that what was found before a fault is kept.

A reader is a generator: it tells one thing after the other and raises ``IncompleteError`` where it cannot go
on. Nothing it is handed is trusted: sizes, counts and offsets are only followed inside these bounds.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from sandbox.scanners.facts import Entry, Facts, FoundPackage, FoundSystem, IncompleteError, Owned

MAX_PACKAGES = 50_000
"""Of one file; as many as a whole scan may hold."""
MAX_OWNED = 300_000
"""Files of one database that packages brought: some 60 MB of memory."""
MAX_LINE_BYTES = 1024 * 1024
MAX_TEXT_BYTES = 64 * 1024 * 1024
"""Of a package database that is text; Debian's with 3,000 packages has 3 MB."""
_PIECE_BYTES = 64 * 1024
MAX_WORD = 300
MAX_LICENCES = 50

Fact = FoundPackage | Owned | FoundSystem


@dataclass(frozen=True, slots=True)
class Reader:
    """A module that reads one kind of metadata, one file at a time."""

    name: str
    version: int
    wants: Callable[[Entry], bool]
    read: Callable[[Entry, BinaryIO], Iterator[Fact]]

    def look(self, entry: Entry, content: BinaryIO) -> Facts:
        return gather(self.read(entry, content))


def gather(facts: Iterator[Fact]) -> Facts:
    """All that a reader tells; where it ends early, what it told before, and why it ended."""
    packages: list[FoundPackage] = []
    owned: list[Owned] = []
    system: FoundSystem | None = None
    incomplete: list[str] = []
    try:
        for fact in facts:
            if isinstance(fact, Owned):
                if len(owned) == MAX_OWNED:
                    raise IncompleteError(f"more than {MAX_OWNED} files belong to packages")
                owned.append(fact)
            elif isinstance(fact, FoundSystem):
                system = fact
            elif not is_word(fact.name) or not is_word(fact.version or "-"):
                incomplete.append(f"a package's name or version cannot be one: {fact.name[:40]!a}")
                if len(incomplete) == 10:
                    raise IncompleteError("and more that cannot be one")
            elif len(packages) == MAX_PACKAGES:
                raise IncompleteError(f"more than {MAX_PACKAGES} packages")
            else:
                packages.append(fact)
    except IncompleteError as error:
        incomplete.append(error.reason)
    except (struct.error, zlib.error, RecursionError, ValueError, OverflowError) as error:
        incomplete.append(f"not as its format says: {type(error).__name__}")
    return Facts(packages=tuple(packages), system=system, owned=tuple(owned), incomplete=tuple(incomplete))


def is_word(text: str) -> bool:
    """Whether it may be a name or a version: printable, and of a length that a document holds."""
    return 0 < len(text) <= MAX_WORD and text.isprintable()


def clean(text: str, limit: int = MAX_WORD) -> str:
    """For what is only shown: no control characters, no half characters, not too long."""
    return "".join(character for character in text[:limit] if character.isprintable())


def licences(*words: str) -> tuple[str, ...]:
    """Raw words of licences, without empty and repeated ones."""
    cleaned = (clean(word).strip() for word in words[:MAX_LICENCES])
    return tuple(dict.fromkeys(word for word in cleaned if word))


def whole(content: BinaryIO, limit: int) -> bytes:
    """All of a file.

    Raises:
        IncompleteError: it has more than ``limit`` bytes.
    """
    data = content.read(limit + 1)
    if len(data) > limit:
        raise IncompleteError(f"larger than the {limit // 1024} KiB that are read of such a file")
    return data


def exactly(content: BinaryIO, offset: int, size: int) -> bytes:
    """``size`` bytes from ``offset`` on. Who calls has bounded ``size``.

    Raises:
        IncompleteError: the file ends before.
    """
    if not 0 <= offset < 2**62:
        raise IncompleteError("an offset lies outside of the file")
    content.seek(offset)
    data = content.read(size)
    if len(data) != size:
        raise IncompleteError("the file ends too early")
    return data


def lines(content: BinaryIO) -> Iterator[str]:
    """The lines of a text without their ends, a piece of the file at a time; undecodable bytes as surrogates.

    Raises:
        IncompleteError: a line or the file is too long.
    """
    size = 0
    begun = b""
    while piece := content.read(_PIECE_BYTES):
        size += len(piece)
        if size > MAX_TEXT_BYTES:
            raise IncompleteError(f"only its first {MAX_TEXT_BYTES // 2**20} MiB were read")
        ended, newline, begun = (begun + piece).rpartition(b"\n")
        if newline:
            yield from _decoded(ended)
        if len(begun) > MAX_LINE_BYTES:
            raise IncompleteError(f"a line is longer than {MAX_LINE_BYTES} bytes")
    if begun:
        yield from _decoded(begun)


def _decoded(ended: bytes) -> Iterator[str]:
    """Only the first can have begun in an earlier piece, and be too long."""
    if len(ended) > MAX_LINE_BYTES and not 0 <= ended.find(b"\n") <= MAX_LINE_BYTES:
        raise IncompleteError(f"a line is longer than {MAX_LINE_BYTES} bytes")
    text = ended.decode("utf-8", "surrogateescape")
    if "\r" not in text:
        yield from text.split("\n")
    else:
        for line in text.split("\n"):
            yield line.rstrip("\r")


def folder_and_name(path: str) -> tuple[str, str]:
    """The folder's path without ``/`` at its end, and the name in it."""
    folder, _, name = path.rpartition("/")
    return folder, name
