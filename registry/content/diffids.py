"""The diff ID of a layer: the digest of its tar, unpacked from whatever it is compressed by (image-spec,
config.md, "Layer DiffID").

What comes out is hashed and thrown away; no tar is read.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from typing import TYPE_CHECKING

from registry.oci.mediatypes import OCI_LAYER

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable

UNPACKED_MAX_BYTES = 64 << 30
"""Of one layer; more is no layer that anything here would unpack."""
_PIECE_BYTES = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_GZIP_WINDOW = 31


class DiffIdHash:
    """Takes a layer's bytes in pieces, and tells its diff ID and media type in the end."""

    def __init__(self, first: bytes) -> None:
        self._state = hashlib.sha256()
        self._left = UNPACKED_MAX_BYTES
        self._is_broken = False
        self.media_type = OCI_LAYER
        self._make: Callable[[], _Gzip | _Zstd] | None = None
        if first.startswith(_GZIP):
            self.media_type, self._make = f"{OCI_LAYER}+gzip", _Gzip
        elif first.startswith(_ZSTD):
            self.media_type, self._make = f"{OCI_LAYER}+zstd", _Zstd
        self._stream = self._make() if self._make else None

    def update(self, piece: bytes) -> None:
        """Add the bytes that follow."""
        if self._is_broken:
            return
        if self._stream is None:
            self._state.update(piece)
            return
        try:
            self._unpack(piece)
        except (zlib.error, zstd.ZstdError, EOFError):
            self._is_broken = True

    def diff_id(self) -> str | None:
        """The diff ID; ``None``: it is not whole, or too large."""
        if self._is_broken or (self._stream is not None and not self._stream.is_at_end):
            return None
        return f"sha256:{self._state.hexdigest()}"

    def _unpack(self, piece: bytes) -> None:
        while self._stream is not None:
            unpacked, piece = self._stream.unpack(piece)
            self._state.update(unpacked)
            self._left -= len(unpacked)
            if self._left < 0:
                self._is_broken = True
                return
            if self._stream.is_at_end and piece and self._make is not None:
                self._stream = self._make()  # members and frames may follow one another
            elif not piece and len(unpacked) < _PIECE_BYTES:
                return


class _Gzip:
    """One member."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_WINDOW)

    @property
    def is_at_end(self) -> bool:
        """Whether the member was whole."""
        return self._stream.eof

    def unpack(self, piece: bytes) -> tuple[bytes, bytes]:
        """A bounded piece of what is in it, and what is left to be given again."""
        unpacked = self._stream.decompress(piece, _PIECE_BYTES)
        return unpacked, self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail


class _Zstd:
    """One frame."""

    def __init__(self) -> None:
        self._stream = zstd.ZstdDecompressor()

    @property
    def is_at_end(self) -> bool:
        """Whether the frame was whole."""
        return self._stream.eof

    def unpack(self, piece: bytes) -> tuple[bytes, bytes]:
        """As :meth:`_Gzip.unpack`; what it has not used yet it keeps to itself."""
        unpacked = self._stream.decompress(piece, max_length=_PIECE_BYTES)
        return unpacked, self._stream.unused_data if self._stream.eof else b""
