"""The header of one package of rpm, as each of its databases keeps it.

Format: rpm's docs/manual/hregions.md and format_header.md; all numbers big-endian. Of its hundred tags only
those are read that name the package, its source, its licence and its files.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from sandbox.scanners.facts import STATED, FoundPackage, IncompleteError, Owned
from sandbox.scanners.packages.reading import MAX_OWNED, Fact, licences

MAX_BYTES = 16 * 1024 * 1024
MAX_TAGS = 65_535
NAME, VERSION, RELEASE, EPOCH, LICENCE, ARCHITECTURE = 1000, 1001, 1002, 1003, 1014, 1022
SOURCE, FILE_DIGESTS, FOLDER_INDEXES, BASENAMES, FOLDERS, DIGEST_KIND = 1044, 1035, 1116, 1117, 1118, 5011
INT32, STRING, STRINGS, TRANSLATED = 4, 6, 8, 9
MD5, DIGESTS = 1, (1, 2, 8)
"""As OpenPGP numbers them (RFC 9580, 9.5): MD5, SHA-1 and SHA-256."""

_source = re.compile(r"(.+)-([^-]+-[^-]+)\.(?:no)?src\.rpm")


def package_of(blob: bytes) -> Iterator[Fact]:
    """The package, and the files it brought.

    Raises:
        IncompleteError: the header cannot be one.
    """
    tags, data = _index(blob)
    name = _text(tags, data, NAME)
    if not name:
        raise IncompleteError("a package in the rpm database has no name")
    # A key for signatures is kept as a package, and is none.
    if name == "gpg-pubkey":
        return
    epoch = next(iter(_numbers(tags, data, EPOCH)), 0)
    release = f"{_text(tags, data, VERSION)}-{_text(tags, data, RELEASE)}"
    source = _source.fullmatch(_text(tags, data, SOURCE))
    yield FoundPackage(
        kind="rpm",
        name=name,
        version=f"{epoch}:{release}" if epoch else release,
        architecture=_text(tags, data, ARCHITECTURE)[:64],
        source=source[1] if source else "",
        source_version=source[2] if source and source[2] != release else "",
        licences=licences(_text(tags, data, LICENCE)),
    )
    yield from _files(tags, data, name)


_Tags = dict[int, tuple[int, int, int]]


def _index(blob: bytes) -> tuple[_Tags, memoryview]:
    if len(blob) < 8:
        raise IncompleteError("a header in the rpm database is cut off")
    count, size = struct.unpack_from(">II", blob)
    if count > MAX_TAGS or 8 + 16 * count + size > len(blob):
        raise IncompleteError("a header in the rpm database cannot be")
    index = struct.iter_unpack(">IIII", blob[8 : 8 + 16 * count])
    tags = {tag: (kind, offset, length) for tag, kind, offset, length in index}
    return tags, memoryview(blob)[8 + 16 * count : 8 + 16 * count + size]


def _text(tags: _Tags, data: memoryview, tag: int) -> str:
    kind, offset, _ = tags.get(tag, (0, 0, 0))
    if kind not in (STRING, STRINGS, TRANSLATED):
        return ""
    return bytes(data[offset : offset + 4096]).partition(b"\0")[0].decode("utf-8", "replace")


def _numbers(tags: _Tags, data: memoryview, tag: int) -> tuple[int, ...]:
    kind, offset, count = tags.get(tag, (0, 0, 0))
    if kind != INT32:
        return ()
    if count > MAX_OWNED:
        raise IncompleteError(f"a package of the rpm database names more than {MAX_OWNED} files")
    if offset + 4 * count > len(data):
        raise IncompleteError("numbers in a header of the rpm database lie outside of it")
    return struct.unpack_from(f">{count}I", data, offset)


def _texts(tags: _Tags, data: memoryview, tag: int) -> list[bytes]:
    kind, offset, count = tags.get(tag, (0, 0, 0))
    if kind != STRINGS:
        return []
    if count > MAX_OWNED:
        raise IncompleteError(f"a package of the rpm database names more than {MAX_OWNED} files")
    *texts, _rest = bytes(data[offset:]).split(b"\0", count)
    if len(texts) != count:
        raise IncompleteError("names in a header of the rpm database lie outside of it")
    return texts


def _files(tags: _Tags, data: memoryview, package: str) -> Iterator[Owned]:
    names, indexes = _texts(tags, data, BASENAMES), _numbers(tags, data, FOLDER_INDEXES)
    folders = [_decoded(folder).removeprefix("/") for folder in _texts(tags, data, FOLDERS)]
    if len(names) != len(indexes) or any(index >= len(folders) for index in indexes):
        raise IncompleteError("the list of files in a header of the rpm database cannot be")
    is_known = next(iter(_numbers(tags, data, DIGEST_KIND)), MD5) in DIGESTS
    digests = _texts(tags, data, FILE_DIGESTS) if is_known else []
    if len(digests) != len(names):
        digests = [b""] * len(names)
    for name, index, digest in zip(names, indexes, digests, strict=True):
        yield Owned(folders[index] + _decoded(name), package, digest[:STATED].decode("ascii", "replace"))


def _decoded(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
