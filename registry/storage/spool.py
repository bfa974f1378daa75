"""Bytes on their way to an object: on local disk, so that no number of uploads fills the memory."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from typing import TYPE_CHECKING, BinaryIO

from registry.storage.files import storage_faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_READ_BYTES = 1 << 17


class Spool:
    """A file without a name, which is gone with the process. Calls come one after the other.

    ``algorithm`` is that of the checksum that the service wants beside the bytes: ``sha256`` or ``md5``.
    """

    def __init__(self, folder: Path, algorithm: str) -> None:
        with storage_faults():
            self._file: BinaryIO = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self._sum = hashlib.new(algorithm, usedforsecurity=False)
        self.length = 0

    def write(self, block: Sequence[bytes]) -> None:
        """Append the pieces of ``block``: all, or nothing.

        Raises:
            StorageFullError: the folder of the spools has no room.
        """
        with storage_faults():
            self._file.seek(self.length)
            for piece in block:
                view = memoryview(piece)
                while view:
                    view = view[self._file.write(view) :]
        for piece in block:
            self._sum.update(piece)
            self.length += len(piece)

    def checksum(self) -> str:
        """Of all bytes, in base64."""
        return base64.b64encode(self._sum.digest()).decode()

    def read(self, size: int = -1) -> bytes:
        """Read on, in blocks of one size: the client asks for 1 MiB to sign them and for 16 KiB to send."""
        return self._file.read(_READ_BYTES)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to where the next ``read`` begins."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where the next ``read`` begins."""
        return self._file.tell()

    def blocks(self) -> Iterator[bytes]:
        """All bytes from the beginning."""
        self.seek(0)
        while block := self.read():
            yield block

    def close(self) -> None:
        """Give the room back."""
        self._file.close()
