"""Bytes on their way to an object: on local disk, so that no number of uploads fills the memory."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from typing import TYPE_CHECKING, BinaryIO

from registry.storage.files import storage_faults

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_READ_BYTES = 1 << 18


class Spool:
    """A file without a name, which is gone with the process. Calls come one after the other.

    ``algorithm`` is that of the checksum that the service wants beside the bytes: ``sha256`` or ``md5``.
    """

    def __init__(self, folder: Path, algorithm: str) -> None:
        with storage_faults():
            self._file: BinaryIO = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self._sum = hashlib.new(algorithm, usedforsecurity=False)
        self.length = 0

    def write(self, block: bytes) -> None:
        """Append ``block``: all of it, or nothing.

        Raises:
            StorageFullError: the folder of the spools has no room.
        """
        with storage_faults():
            view = memoryview(block)
            self._file.seek(self.length)
            while view:
                view = view[self._file.write(view) :]
        self._sum.update(block)
        self.length += len(block)

    def checksum(self) -> str:
        """Of all bytes, in base64."""
        return base64.b64encode(self._sum.digest()).decode()

    def read(self, size: int = -1) -> bytes:
        """Read on, in blocks of a good size whatever is asked for: the HTTP client asks for 16 KiB."""
        return self._file.read(self.length if size < 0 else max(size, _READ_BYTES))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to where the next ``read`` begins."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where the next ``read`` begins."""
        return self._file.tell()

    def blocks(self) -> Iterator[bytes]:
        """All bytes from the beginning."""
        self.seek(0)
        while block := self.read(0):
            yield block

    def close(self) -> None:
        """Give the room back."""
        self._file.close()
