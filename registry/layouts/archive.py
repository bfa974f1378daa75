"""An archive of a layout, told by its first bytes: tar or zip, plain or compressed.

What is compressed, or comes as a stream, is first written to a file without a name, so that memory stays
bounded.
"""

from __future__ import annotations

import bz2
import gzip
import sys
import tempfile
import zlib
from contextlib import closing
from typing import IO, TYPE_CHECKING, cast

from registry.layouts.errors import LayoutError
from registry.layouts.members import PIECE_BYTES, FolderMembers, Members, Reader, pieces
from registry.layouts.tar import TarMembers
from registry.layouts.zip import ZipMembers

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UNPACKED_MAX_BYTES = 256 * 1024**3
_ZIPS = (b"PK\3\4", b"PK\5\6")
_XZ = b"\xfd7zXZ\0"


def open_path(path: Path) -> Members:
    """The files of a folder, or in an archive, on this host.

    Raises:
        LayoutError: it is neither, or cannot be read.
    """
    if path.is_dir():
        return FolderMembers(path)
    if path.exists() and not path.is_file():
        raise LayoutError("missing", f"{path} is neither a folder nor a file")
    try:
        return open_archive(path.open("rb"), path.name)
    except OSError as error:
        raise LayoutError("missing", f"{path} cannot be read: {error.strerror}") from None


def open_archive(file: IO[bytes], name: str) -> Members:
    """The files in an archive that can be read anywhere; it is closed with them, or when this fails.

    Raises:
        LayoutError: it is none that can be read.
    """
    try:
        first = file.read(6)
        file.seek(0)
        if first.startswith(_ZIPS):
            return ZipMembers(file, name)
        if first == _XZ:
            raise LayoutError("missing", f"{name} is compressed by xz; unpack it first: xz -d")
        unpacked = _decompressor(first, file)
        if unpacked is None:
            return TarMembers(file, name)
        with closing(file), closing(unpacked):
            spooled = spool(_Telling(unpacked, name), name)
        file = spooled
        return TarMembers(spooled, name)
    except BaseException:
        file.close()
        raise


def spool(reader: Reader, name: str, advance: Callable[[int], None] = lambda _: None) -> IO[bytes]:
    """What is read, in a file without a name, in the folder for temporary files.

    Raises:
        LayoutError: it is larger than an archive may be, or there is no room for it.
    """
    file = cast("IO[bytes]", tempfile.TemporaryFile())  # noqa: SIM115  (the caller closes it)
    total = 0
    try:
        for piece in pieces(reader):
            total += len(piece)
            if total > UNPACKED_MAX_BYTES:
                raise LayoutError("invalid", f"{name} has more than {UNPACKED_MAX_BYTES} bytes")
            try:
                file.write(piece)
            except OSError as error:
                raise LayoutError(
                    "missing",
                    f"{name} does not fit into {tempfile.gettempdir()} (TMPDIR may name another folder): "
                    f"{error.strerror}",
                ) from None
            advance(len(piece))
        file.flush()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


class _Telling:
    """What is decompressed, whose damage is told as that of an archive."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        try:
            return self._stream.read(min(size, PIECE_BYTES))
        except EOFError:
            raise LayoutError("missing", f"{self._name} is cut off") from None
        except (OSError, zlib.error, zstd.ZstdError):
            raise LayoutError("mismatch", f"{self._name} cannot be decompressed") from None

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


def _decompressor(first: bytes, file: IO[bytes]) -> IO[bytes] | None:
    if first.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if first.startswith(b"\x28\xb5\x2f\xfd"):
        return cast("IO[bytes]", zstd.ZstdFile(file))
    if first.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.BZ2File(file))
    return None
