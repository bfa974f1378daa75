"""A layout written as a tar or zip, member by member as it comes: of the same content the same bytes."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from typing import IO, TYPE_CHECKING

from registry.layouts.writing import JsonEntry, verified
from registry.oci.layout import INDEX_PATH, MARKER, MARKER_PATH, blob_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from registry.oci.digest import Digest

_MODE = 0o644
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)
_ZIP_SMALL_BYTES = 2**31 - 1


class TarTarget:
    """A tar, written to a stream that need not be one that can be read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def entries(self) -> list[JsonEntry]:
        """None: it is new."""
        return []

    def begin(self, index: bytes, beside: Mapping[str, bytes]) -> None:
        """As :class:`Target` says."""
        for name, content in {MARKER_PATH: MARKER, INDEX_PATH: index, **beside}.items():
            self._member(name, len(content), iter((content,)))

    def holds(self, digest: Digest, size: int) -> bool:
        """Nothing: it is new."""
        return False

    def add(
        self,
        digest: Digest,
        size: int,
        pieces: Callable[[int], Iterator[bytes]],
        advance: Callable[[int], None],
    ) -> None:
        """As :class:`Target` says."""
        state = hashlib.new(digest.algorithm)
        self._member(blob_path(digest), size, _counted(verified(digest, size, pieces(0), state), advance))

    def finish(self) -> None:
        """As :class:`Target` says (POSIX.1-2017, pax, "ustar Interchange Format")."""
        self._stream.write(bytes(2 * tarfile.BLOCKSIZE))

    def _member(self, name: str, size: int, pieces: Iterator[bytes]) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, _MODE
        self._stream.write(member.tobuf(tarfile.PAX_FORMAT))
        for piece in pieces:
            self._stream.write(piece)
        self._stream.write(bytes(-size % tarfile.BLOCKSIZE))


class ZipTarget:
    """A zip. Its members are stored: layers are compressed already."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(stream, "w")

    def entries(self) -> list[JsonEntry]:
        """None: it is new."""
        return []

    def begin(self, index: bytes, beside: Mapping[str, bytes]) -> None:
        """As :class:`Target` says."""
        for name, content in {MARKER_PATH: MARKER, INDEX_PATH: index, **beside}.items():
            self._zip.writestr(_zip_member(name), content)

    def holds(self, digest: Digest, size: int) -> bool:
        """Nothing: it is new."""
        return False

    def add(
        self,
        digest: Digest,
        size: int,
        pieces: Callable[[int], Iterator[bytes]],
        advance: Callable[[int], None],
    ) -> None:
        """As :class:`Target` says."""
        state = hashlib.new(digest.algorithm)
        member = _zip_member(blob_path(digest))
        with self._zip.open(member, "w", force_zip64=size > _ZIP_SMALL_BYTES) as file:
            for piece in _counted(verified(digest, size, pieces(0), state), advance):
                file.write(piece)

    def finish(self) -> None:
        """As :class:`Target` says."""
        self._zip.close()


def _zip_member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _FIRST_DATE)
    member.external_attr = _MODE << 16
    return member


def _counted(pieces: Iterator[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        advance(len(piece))
