"""The files below the filesystem driver: an upload that grows, a blob that is read."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from registry.errors import (
    BlobUnknownError,
    BlobUploadInvalidError,
    BlobUploadUnknownError,
    RangeInvalidError,
    StorageFullError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from hashlib import _Hash
    from pathlib import Path

    from registry.storage.threads import Threads

_READ_BYTES = 1 << 18
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the operating system says where there is no room."""


@contextmanager
def storage_faults() -> Iterator[None]:
    """Turn what the operating system says into the errors of the contract."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StorageFullError(
                "the storage is full; push again when the registry's operator has made room"
            ) from error
        raise UnavailableError("the blob store cannot be read or written") from error


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def have_folder(folder: Path) -> None:
    """Make a folder whose parent is there, durably, unless it is there as well."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, exist_ok=True)
        give_to_owner(folder, folder.parent)
        sync_folder(folder.parent)


def give_to_owner(made: int | Path, folder: Path) -> None:
    """Where a command of root's writes into somebody's folder, let what it made there be his: the server runs
    as him, and has to read it."""
    if os.geteuid() == 0 and (owner := folder.stat()).st_uid != 0:
        os.chown(made, owner.st_uid, owner.st_gid)


def may_be_read(fd: int, folder: Path) -> bool:
    """Whether whoever owns the folder may read the open file; asked of root, who may read any."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return True
    file = os.fstat(fd)
    if file.st_uid == owner.st_uid:
        return bool(file.st_mode & 0o400)
    return bool(file.st_mode & (0o040 if file.st_gid == owner.st_gid else 0o004))


def lock_upload(path: Path) -> int:
    """Open the upload for reading and writing and hold its lock until the descriptor is closed.

    Raises:
        BlobUploadUnknownError: there is no such upload.
        BlobUploadInvalidError: somebody else holds the lock.
    """
    with storage_faults():
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            raise BlobUploadUnknownError("there is no such upload") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been finished or cancelled between the open and the lock.
            if not os.path.samestat(path.stat(), os.fstat(fd)):
                raise FileNotFoundError
        except BlockingIOError:
            os.close(fd)
            raise BlobUploadInvalidError("another request is writing to this upload") from None
        except FileNotFoundError:
            os.close(fd)
            raise BlobUploadUnknownError("there is no such upload") from None
        except BaseException:
            os.close(fd)
            raise
    return fd


@dataclass(slots=True)
class RunningHash:
    """The hash of the first ``length`` bytes of an upload."""

    algorithm: str
    state: _Hash
    length: int = 0

    @classmethod
    def start(cls, algorithm: str) -> RunningHash:
        """The hash of nothing yet."""
        return cls(algorithm, hashlib.new(algorithm))

    def update(self, block: bytes) -> None:
        """Add the bytes that follow."""
        self.state.update(block)
        self.length += len(block)


class UploadFile:
    """An upload while one request appends to it. All calls come from one request, one after the other."""

    def __init__(self, path: Path, *, reserve_bytes: int) -> None:
        self.length = 0
        self.running_hash: RunningHash | None = None
        self._path = path
        self._reserve_bytes = reserve_bytes
        self._fd = -1
        self._synced = 0
        self._failed: Exception | None = None

    def open(self, offset: int) -> None:
        """Lock the upload, which must end at ``offset``.

        Raises:
            BlobUploadUnknownError, BlobUploadInvalidError: as :func:`lock_upload`.
            RangeInvalidError: it ends elsewhere.
        """
        self._fd = lock_upload(self._path)
        self.length = self._synced = os.fstat(self._fd).st_size
        if self.length != offset:
            raise RangeInvalidError(
                f"the upload stands at byte {self.length}, not {offset}", detail={"offset": self.length}
            )

    def write(self, block: Sequence[bytes]) -> None:
        """Append and hash the pieces of ``block``: all, or nothing. After a failure nothing more is written.

        Raises:
            StorageFullError: no room; ``detail["offset"]`` is where the upload ends.
        """
        if self._failed is not None:
            raise self._failed
        try:
            with storage_faults():
                self._write(block)
        except (StorageFullError, UnavailableError) as error:
            error.detail = {"offset": self.length}
            self._failed = error
            raise
        if self.running_hash is not None:
            for piece in block:
                self.running_hash.update(piece)

    def close(self) -> None:
        """Make everything durable and release the lock.

        Raises:
            StorageFullError, UnavailableError: it cannot be; the upload is cut back to where it last was.
            BlobUploadUnknownError: the upload was deleted meanwhile.
        """
        if self._fd < 0:
            return
        try:
            with storage_faults():
                if self.length > self._synced:
                    self._sync()
                if os.fstat(self._fd).st_nlink == 0:
                    raise BlobUploadUnknownError("the upload was cancelled meanwhile")
        finally:
            os.close(self._fd)
            self._fd = -1

    def _write(self, block: Sequence[bytes]) -> None:
        length = sum(map(len, block))
        room = os.fstatvfs(self._fd)
        if room.f_bavail * room.f_frsize < self._reserve_bytes + length:
            raise OSError(errno.ENOSPC, "the reserve is reached")
        try:
            written = os.pwritev(self._fd, block, self.length)
            if written < length:
                view = memoryview(b"".join(block))
                while written < length:
                    written += os.pwrite(self._fd, view[written:], self.length + written)
        except OSError:
            os.ftruncate(self._fd, self.length)
            raise
        self.length += length

    def _sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError:
            # What the kernel could not write it forgets: only bytes synced before can be believed.
            os.ftruncate(self._fd, self._synced)
            self.length = self._synced
            raise


class FileBlob:
    """A finished blob; see :class:`~registry.storage.store.OpenBlob`."""

    def __init__(self, path: Path, threads: Threads) -> None:
        self.size = 0
        self.file: BinaryIO | None = None
        self._path = path
        self._threads = threads

    def open(self) -> None:
        """Open the file.

        Raises:
            BlobUnknownError: there is none.
        """
        with storage_faults():
            try:
                self.file = self._path.open("rb", buffering=0)
            except FileNotFoundError:
                raise BlobUnknownError("the blob's bytes are not in the store") from None
            self.size = os.fstat(self.file.fileno()).st_size

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self.file is not None:
            self.file.close()

    async def chunks(self, first: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See :meth:`OpenBlob.chunks`."""
        end = self.size if length is None else min(first + length, self.size)
        while first < end:
            block = await self._threads.run(self._read, first, min(_READ_BYTES, end - first))
            yield block
            first += len(block)

    def _read(self, offset: int, length: int) -> bytes:
        assert self.file is not None
        with storage_faults():
            block = os.pread(self.file.fileno(), length, offset)
        if not block:
            raise UnavailableError("a blob in the store is shorter than it was")
        return block
