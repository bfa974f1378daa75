"""What an operator hands over, document by document: folders, zips, tars and single files, under limits.

Nothing of it is trusted. What is too large, broken or of another kind is skipped with its reason, and the
rest is read; only a file that cannot be opened at all ends the import.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, cast

from registry.advisories.values import Skip
from registry.errors import NotFoundError, RequestInvalidError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""Of one among many: the largest record of OSV has some 3 MB."""
MAX_FILE_BYTES = 512 * 1024 * 1024
"""Of a file that is one document: Debian's tracker has 70 MB."""
MAX_PACKAGE_BYTES = 64 * 1024 * 1024
"""Of a Debian package among many; of larger ones the changelog is not looked for."""
MAX_TOTAL_BYTES = 32 * 1024**3
MAX_DOCUMENTS = 4_000_000
_HEADER_BYTES = 4 * 1024 * 1024
BROKEN = (
    EOFError,
    OSError,
    zlib.error,
    lzma.LZMAError,
    zstd.ZstdError,
    zipfile.BadZipFile,
    tarfile.TarError,
)


@dataclass(frozen=True, slots=True)
class Document:
    """One document; ``name`` is its path in what was handed over."""

    name: str
    content: bytes


Advance = Callable[[int], None]
"""Told how many more bytes of what was handed over are done."""


def size_of(path: Path) -> int:
    """How many bytes :func:`documents` will read, for a progress bar."""
    return sum(found.stat().st_size for found in _files(path))


def changed_at(path: Path) -> datetime:
    """When a file, or the newest one in a folder, was written.

    Raises:
        NotFoundError: there is none.
    """
    newest = max((found.stat().st_mtime for found in _files(path)), default=0.0)
    return datetime.fromtimestamp(newest, UTC)


def documents(path: Path, advance: Advance) -> Iterator[Document | Skip]:
    """All documents of a folder, an archive or a file, in an order that depends on their names only.

    Raises:
        NotFoundError: there is nothing at ``path``.
        RequestInvalidError: it cannot be opened as what it seems to be.
    """
    left = _Left()
    if path.is_dir():
        for file in _files(path):
            name = str(file.relative_to(path))
            try:
                with file.open("rb") as stream:
                    yield from left.take(name, stream)
            except BROKEN as error:
                yield Skip(name, f"it cannot be read ({type(error).__name__})")
            advance(file.stat().st_size)
        return
    (file,) = _files(path)
    with file.open("rb") as raw:
        yield from _of_file(path, raw, left, advance)


def _of_file(path: Path, raw: IO[bytes], left: _Left, advance: Advance) -> Iterator[Document | Skip]:
    size = path.stat().st_size
    magic = raw.read(8)
    raw.seek(0)
    if magic.startswith(b"PK"):
        yield from _zip(path, raw, left, advance)
    elif magic.startswith(b"!<arch>\n"):
        yield from left.take(path.name, raw)
        advance(size)
    else:
        try:
            is_tar = unpacked(raw).read(512)[257:262] == b"ustar"
            raw.seek(0)
            stream = unpacked(raw)
            content = b"" if is_tar else stream.read(MAX_FILE_BYTES + 1)
        except BROKEN as error:
            raise RequestInvalidError(f"{path} is broken: {error}") from None
        if is_tar:
            yield from _tar(path, raw, stream, left, advance)
        else:
            if len(content) > MAX_FILE_BYTES:
                raise RequestInvalidError(f"{path} has more than {MAX_FILE_BYTES} bytes")
            advance(size)
            yield Document(path.name, content)


@dataclass(slots=True)
class _Left:
    """How much more of one source is read."""

    room: int = MAX_TOTAL_BYTES
    documents: int = MAX_DOCUMENTS

    def take(self, name: str, stream: IO[bytes]) -> Iterator[Document | Skip]:
        """The document in a stream, unpacked where its name says so."""
        lower = name.lower()
        most = MAX_PACKAGE_BYTES if lower.endswith(".deb") else MAX_DOCUMENT_BYTES
        if not _is_wanted(lower):
            yield Skip(name, "neither JSON nor a changelog")
            return
        if self.room <= 0 or self.documents <= 0:
            yield Skip(name, "beyond what is read of one source")
            return
        if lower.endswith(".gz"):
            stream = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
        content = stream.read(most + 1)
        self.room -= len(content)
        self.documents -= 1
        if len(content) > most:
            yield Skip(name, f"larger than {most // 1024**2} MiB")
        else:
            yield Document(name, content)


def _is_wanted(lower: str) -> bool:
    base = lower.rpartition("/")[2]
    plain = base.removesuffix(".gz")
    return plain.endswith((".json", ".deb", ".changelog")) or plain.startswith("changelog")


def _files(path: Path) -> list[Path]:
    """The regular files at a path, by name; links are not followed below it."""
    try:
        kind = path.stat().st_mode
        if stat.S_ISREG(kind):
            return [path]
        if not stat.S_ISDIR(kind):
            raise RequestInvalidError(f"{path} is neither a file nor a folder")
        found = []
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            found += [Path(folder, name) for name in names if not name.startswith(".")]
        return sorted(one for one in found if stat.S_ISREG(one.lstat().st_mode))
    except OSError as error:
        raise NotFoundError(f"{path} cannot be read: {error.strerror}") from None


def unpacked(raw: IO[bytes]) -> IO[bytes]:
    """The bytes of a file that can be sought, without the packing that its first bytes tell of."""
    magic = raw.read(8)
    raw.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return cast("IO[bytes]", zstd.ZstdFile(raw, "rb"))
    if magic.startswith(b"\xfd7zXZ\0"):
        return cast("IO[bytes]", lzma.LZMAFile(raw))
    if magic.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.BZ2File(raw))
    return raw


def _zip(path: Path, raw: IO[bytes], left: _Left, advance: Advance) -> Iterator[Document | Skip]:
    try:
        archive = zipfile.ZipFile(raw)
    except (*BROKEN, ValueError, NotImplementedError) as error:
        raise RequestInvalidError(f"{path} is no whole zip: {error}") from None
    with archive:
        for entry in sorted(archive.infolist(), key=lambda one: one.filename):
            advance(entry.compress_size)
            # One without a name is no folder either, and none that anybody wants.
            if not entry.filename or entry.is_dir():
                continue
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # The others are unpacked whole, whatever little is asked for.
                yield Skip(entry.filename, "packed in another way than zips of advisories are")
                continue
            try:
                with archive.open(entry) as stream:
                    yield from left.take(entry.filename, stream)
            except (*BROKEN, RuntimeError, ValueError) as error:  # RuntimeError: it needs a password
                yield Skip(entry.filename, f"it cannot be unpacked ({type(error).__name__})")


class _Metered(io.RawIOBase):
    """The bytes of a tar, up to a limit that moves on: what ``tarfile`` reads for itself stays small."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream = stream
        self._left = most
        self.allowed = _HEADER_BYTES

    def read(self, size: int = -1, /) -> bytes:  # tarfile always says how much
        data = self._stream.read(size)
        self.allowed -= len(data)
        self._left -= len(data)
        if self.allowed < 0 or self._left < 0:
            raise tarfile.ReadError("more than is read of one archive")
        return data


def regular_members(stream: IO[bytes], most: int) -> Iterator[tuple[str, IO[bytes]]]:
    """Regular files of a tar, each to be read before the next is asked for; of all at most ``most`` bytes.

    Raises:
        tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ZstdError: broken from here on.
    """
    metered = _Metered(stream, most)
    with tarfile.open(fileobj=cast("IO[bytes]", metered), mode="r|") as archive:
        while (entry := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # else each stays in memory
            # What belongs to this member may be read, or skipped, on the way to the next.
            metered.allowed = _HEADER_BYTES + max(entry.size, 0)
            if entry.isreg() and (content := archive.extractfile(entry)) is not None:
                yield entry.name, content


def _tar(
    path: Path, raw: IO[bytes], stream: IO[bytes], left: _Left, advance: Advance
) -> Iterator[Document | Skip]:
    at = 0
    try:
        for name, content in regular_members(stream, MAX_TOTAL_BYTES):
            try:
                yield from left.take(name, content)
            except (gzip.BadGzipFile, zlib.error) as error:
                yield Skip(name, f"it cannot be unpacked ({type(error).__name__})")
            advance(raw.tell() - at)
            at = raw.tell()
    except BROKEN as error:
        yield Skip(path.name, f"the archive is broken from here on ({type(error).__name__})")
