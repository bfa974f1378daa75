"""Where backups are kept: named files in a folder or a bucket, each whole or not there.

A target knows names and bytes, and nothing of what they mean. Its parts are folders with a slash between:
``backups/ID.json``. What is put under a name replaces what was there.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Protocol

from registry.errors import (
    BlobUnknownError,
    ConflictError,
    NotFoundError,
    StorageFullError,
    UnavailableError,
)
from registry.storage.files import NO_ROOM, FileBlob, sync_folder
from registry.storage.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from registry.storage.store import OpenBlob

_THREADS = 8
_WRITE_BYTES = 1 << 20


class BackupTarget(Protocol):
    """Errors of any method: :class:`~registry.errors.StorageFullError` and
    :class:`~registry.errors.UnavailableError`, besides those that are named."""

    def alone(self) -> AbstractAsyncContextManager[None]:
        """While the block runs, nobody else writes or deletes here. What was begun and not ended before goes.

        Raises:
            ConflictError: on entering; somebody else does.
        """

    async def put(self, name: str, chunks: AsyncIterable[bytes]) -> int:
        """Keep these bytes under ``name``, and return how many they are. When it returns they are durable;
        before, nothing is there."""

    def open(self, name: str) -> AbstractAsyncContextManager[OpenBlob]:
        """Open a file for reading.

        Raises:
            NotFoundError: on entering; there is none.
        """

    async def sizes(self, folder: str) -> Mapping[str, int]:
        """The files in the folder, not those in folders below it: name within it, and bytes."""

    async def delete(self, name: str) -> None:
        """Remove a file, if it is there."""

    async def close(self) -> None:
        """Give up threads and connections."""


class FolderTarget:
    """A :class:`BackupTarget` in the folder ``root``. What is being written is in ``root/unfinished``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unfinished = root / "unfinished"
        self._threads = Threads("backup", _THREADS)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """See :meth:`BackupTarget.alone`."""
        fd = await self._threads.run(self._lock)
        try:
            yield
        finally:
            os.close(fd)

    async def put(self, name: str, chunks: AsyncIterable[bytes]) -> int:
        """See :meth:`BackupTarget.put`."""
        path = self._unfinished / secrets.token_hex(16)
        fd = await self._threads.run(self._begin, path)
        length = 0
        try:
            block: list[bytes] = []
            waiting = 0
            async for chunk in chunks:
                block.append(chunk)
                waiting += len(chunk)
                if waiting >= _WRITE_BYTES:
                    length += await self._threads.run(_write, fd, b"".join(block))
                    block, waiting = [], 0
            length += await self._threads.run(_write, fd, b"".join(block))
            await self._threads.run(self._finish, fd, path, self._root / name)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        return length

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[FileBlob]:
        """See :meth:`BackupTarget.open`."""
        file = FileBlob(self._root / name, self._threads)
        try:
            try:
                await self._threads.run(file.open)
            except BlobUnknownError:
                raise NotFoundError(f"the backups have no {name}") from None
            yield file
        finally:
            file.close()

    async def sizes(self, folder: str) -> Mapping[str, int]:
        """See :meth:`BackupTarget.sizes`."""
        return await self._threads.run(_sizes, self._root / folder)

    async def delete(self, name: str) -> None:
        """See :meth:`BackupTarget.delete`."""
        await self._threads.run(_delete, self._root / name)

    async def close(self) -> None:
        """See :meth:`BackupTarget.close`."""
        await asyncio.to_thread(self._threads.close)

    def _lock(self) -> int:
        try:
            self._unfinished.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnavailableError(f"{self._root} cannot be written to: {error.strerror}") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise ConflictError("another command writes to these backups; wait until it has ended") from None
        with _faults():
            for left in self._unfinished.iterdir():
                left.unlink()
        return fd

    def _begin(self, path: Path) -> int:
        with _faults():
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def _finish(self, fd: int, path: Path, target: Path) -> None:
        with _faults():
            os.fsync(fd)
            if not target.parent.is_dir():
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                for folder in target.parent.parents:
                    sync_folder(folder)
                    if folder == self._root:
                        break
            path.rename(target)
            sync_folder(target.parent)


@contextmanager
def _faults() -> Iterator[None]:
    """As :func:`~registry.storage.files.storage_faults`, in words for whoever makes backups."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StorageFullError("there is no room for the backup; what was copied stays") from error
        raise UnavailableError(f"the backups cannot be read or written: {error.strerror}") from error


def _write(fd: int, block: bytes) -> int:
    with _faults():
        view = memoryview(block)
        while view:
            view = view[os.write(fd, view) :]
    return len(block)


def _sizes(folder: Path) -> dict[str, int]:
    with _faults():
        try:
            with os.scandir(folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return {}


def _delete(path: Path) -> None:
    with _faults():
        path.unlink(missing_ok=True)
