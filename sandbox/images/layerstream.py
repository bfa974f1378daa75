"""The bytes of a layer: unpacked from gzip, zstd or nothing, hashed on the way, read forward only.

One thread decompresses and hashes ahead of the reader, a few blocks at most, so memory stays bounded.
"""

from __future__ import annotations

import hashlib
import io
import queue
import sys
import tarfile
import threading
import zlib
from collections.abc import Iterator
from typing import IO, cast

from isal import igzip, igzip_lib

from registry.layouts.tarheaders import DIGITS_MAX, HEADER_MAX_BYTES, has_digit_run
from sandbox.images.tarpolicy import LayerError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Each block costs some handing over between the two threads, which on a busy host is a wait every time.
BLOCK_BYTES = 4 * 1024 * 1024
_GZIP, _ZSTD, _ZSTD_SKIPPABLE = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
_ZERO = b"\0" * tarfile.BLOCKSIZE


class LayerReader:
    """A file-like object over the uncompressed bytes, as far as ``tarfile`` needs one for its headers.

    At most ``max_bytes`` come out of it. ``fd`` stays the caller's.
    """

    def __init__(self, fd: int, *, algorithm: str, max_bytes: int) -> None:
        self._hash = hashlib.new(algorithm)
        self._max_bytes = max_bytes
        self._blocks: queue.Queue[bytes] = queue.Queue(2)
        self._block = memoryview(b"")
        self._at = 0
        self._offset = 0
        self._header_bytes = 0
        self._ended = False
        self._error: LayerError | None = LayerError("worker-error", "the decompressor ended early")
        self._feeder = threading.Thread(target=self._feed, args=(fd,), name="decompress", daemon=True)
        self._feeder.start()

    def tell(self) -> int:
        """Bytes read so far."""
        return self._offset

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, fewer only at the end. Meant for headers.

        Raises:
            LayerError: more than a header may have, or the data is broken.
        """
        self._header_bytes += size
        if size < 0 or self._header_bytes > HEADER_MAX_BYTES:
            raise LayerError("layer-invalid", f"has extended headers of {self._header_bytes} bytes")
        data = b""
        while len(data) < size and (piece := self.read_some(size - len(data))):
            data += piece
        if has_digit_run(data):
            raise LayerError("layer-invalid", f"has {DIGITS_MAX} digits in a row in a header")
        return data

    def read_some(self, size: int) -> memoryview:
        """Between 1 and ``size`` bytes without a copy; none at the end."""
        if self._at == len(self._block):
            self._next_block()
        piece = self._block[self._at : self._at + size]
        self._at += len(piece)
        self._offset += len(piece)
        return piece

    def skip_to(self, offset: int) -> None:
        """Go forward, to the headers of the next member.

        Raises:
            LayerError: the layer ends before, or ``offset`` lies behind.
        """
        if offset < self._offset:
            raise LayerError("layer-invalid", "has a header with a size that leads backwards")
        while self._offset < offset:
            if not self.read_some(offset - self._offset):
                raise LayerError("layer-invalid", "is cut off: the layer ends inside it")
        self._header_bytes = 0

    def finish(self) -> str:
        """Read to the end; the digest of everything, as ``algorithm:hex``."""
        while self.read_some(BLOCK_BYTES):
            pass
        self._feeder.join()
        return f"{self._hash.name}:{self._hash.hexdigest()}"

    def _next_block(self) -> None:
        if self._ended:
            return
        block = self._blocks.get()
        self._block, self._at = memoryview(block), 0
        if not block:
            self._ended = True
            if self._error is not None:
                raise self._error

    def _feed(self, fd: int) -> None:
        try:
            total = 0
            with _decompressed(fd) as stream:
                while block := stream.read(BLOCK_BYTES):
                    total += len(block)
                    if total > self._max_bytes:
                        self._error = LayerError(
                            "too-large", f"unpacks to more than the {self._max_bytes} bytes that are left"
                        )
                        return
                    self._hash.update(block)
                    self._blocks.put(block)
            self._error = None
        except (EOFError, OSError, zlib.error, igzip_lib.IsalError, zstd.ZstdError) as error:  # type: ignore[misc]
            self._error = LayerError("layer-invalid", f"the compressed data is broken: {error}")
        except MemoryError:
            self._error = LayerError("layer-invalid", "the compressed data asks for too much memory")
        finally:
            self._blocks.put(b"")


def _decompressed(fd: int) -> IO[bytes]:
    # The magic decides, not the media type: both are the author's word, and only one can be unpacked.
    raw = io.BufferedReader(io.FileIO(fd, closefd=False), BLOCK_BYTES)
    magic = raw.peek(4)[:4]
    if magic.startswith(_GZIP):
        return cast("IO[bytes]", igzip.open(raw, "rb"))  # type: ignore[no-untyped-call]
    if magic == _ZSTD or magic[1:4] == _ZSTD_SKIPPABLE:
        return cast("IO[bytes]", zstd.ZstdFile(raw, "rb"))
    return raw


class _NoGlobals(dict[str, str]):
    """Global extended headers are read and forgotten, as every other client does."""

    def __setitem__(self, key: str, value: str) -> None:
        return


class _Headers:
    """The little of ``tarfile.TarFile`` that ``TarInfo.fromtarfile`` uses.

    TarFile itself takes a broken header after the first for the end of the archive: other readers of the
    same layer would see more files than the one that checks it.
    """

    encoding = "utf-8"
    errors = "surrogateescape"

    def __init__(self, reader: LayerReader) -> None:
        self.fileobj = reader
        self.offset = 0
        self.pax_headers = _NoGlobals()


def members(reader: LayerReader) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """The headers of a tar, each with the offset where its data ends; what the consumer leaves of the data
    is skipped.

    Raises:
        LayerError: broken or cut off anywhere.
    """
    archive = _Headers(reader)
    count = 0
    while True:
        reader.skip_to(archive.offset)
        try:
            info = tarfile.TarInfo.fromtarfile(cast("tarfile.TarFile", archive))
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            if reader.read(tarfile.BLOCKSIZE) not in (b"", _ZERO):
                raise LayerError("layer-invalid", "goes on after an end mark") from None
            return
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            return
        except (tarfile.TarError, ValueError, IndexError, OverflowError, RecursionError) as error:
            raise LayerError(
                "layer-invalid", f"the header after member {count} is broken: {error or 'too many in a row'}"
            ) from None
        count += 1
        yield info, archive.offset
