"""The cache of one host: verified blobs and unpacked layers, shared by the workers that name its folder.

``FOLDER/blobs/<algorithm>/<encoded>`` are blobs as pulled, ``FOLDER/snapshots/<chain>`` unpacked layers,
``FOLDER/scans/<diff ID>.<modules>`` what was found in a layer.
Whoever uses one holds a shared lock on it, on the blob's file or the snapshot's folder itself, which the
kernel takes back when the process dies. Whoever removes one takes that lock alone, and moves a snapshot aside
before anything in it goes: what stands under its name is whole. When it was last used is its time.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from registry.oci.digest import Digest
from sandbox.errors import SandboxError
from sandbox.images.layertree import remove_folder

UNFINISHED = ".tmp"
GONE = ".gone"
LOCK_POLL_SECONDS = 0.05
_TRIES = 20
_PAUSE_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Cache:
    """The cache in ``folder``, which is closed to others: a blob there counts as verified by its name."""

    folder: Path

    @property
    def blobs(self) -> Path:
        return self.folder / "blobs"

    @property
    def snapshots(self) -> Path:
        return self.folder / "snapshots"

    @property
    def scans(self) -> Path:
        return self.folder / "scans"

    @property
    def locks(self) -> Path:
        return self.folder / "locks"

    def open(self) -> None:
        """Make its folders.

        Raises:
            SandboxError: ``worker-error``: it cannot be made, or others could have put something into it.
        """
        try:
            for folder in (self.folder, self.blobs, self.snapshots, self.scans, self.locks):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.folder.stat()
        except OSError as error:
            raise SandboxError(
                "worker-error", f"the cache folder {self.folder} cannot be used: {error.strerror}"
            ) from None
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise SandboxError(
                "worker-error",
                f"the cache folder {self.folder} must belong to the worker's user and be closed to others "
                f"(chmod 0700 {self.folder}): what is in it counts as verified",
            )

    def blob(self, digest: Digest) -> Path:
        """Where a blob is or will be."""
        return self.blobs / digest.algorithm / digest.encoded

    def has_snapshot(self, chain: Digest) -> bool:
        """Whether a layer seems to be unpacked; only a look, nothing is held."""
        return any(self.snapshots.glob(f"{chain.algorithm}-{chain.encoded}*"))

    @contextmanager
    def used(self) -> Iterator[Use]:
        """What is held in the block is not collected.

        Raises:
            SandboxError: as :meth:`open`.
        """
        self.open()
        use = Use(self)
        try:
            yield use
        finally:
            use.close()


@dataclass(slots=True)
class Use:
    """What one attempt holds of the cache. Not for several threads at once."""

    cache: Cache
    _fds: dict[Path, int] = field(default_factory=dict)

    def hold(self, path: Path) -> bool:
        """Keep a blob or snapshot from being collected; false where it is not there, or on its way out."""
        if path in self._fds:
            return True
        for _ in range(_TRIES):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                return False
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                # Looked at, or being removed; either is a matter of moments.
                os.close(fd)
                time.sleep(_PAUSE_SECONDS)
                continue
            if is_at(path, fd):
                self._fds[path] = fd
                _touch(fd)
                return True
            os.close(fd)
        return False

    def adopt(self, path: Path, fd: int) -> None:
        """Hold what stands at ``path`` by a handle of it that has the shared lock already."""
        self.release(path)
        self._fds[path] = fd

    def release(self, path: Path) -> None:
        """Let go of one, used until now."""
        fd = self._fds.pop(path, None)
        if fd is not None:
            with suppress(OSError):
                _touch(fd)
            os.close(fd)

    def close(self) -> None:
        """Let go of everything. Of the layers of an image the lowest counts as the last one used: without it
        those above it are of no use."""
        for path in reversed(tuple(self._fds)):
            self.release(path)


def remove_path(path: Path) -> None:
    """Remove a folder and all below it, however deep, following nothing. Not being there is fine."""
    with suppress(FileNotFoundError):
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove_folder(parent, os.fsencode(path.name))
        finally:
            os.close(parent)


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the lock at ``path`` if nobody else does, and say whether. Who holds it may remove it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        held = _try_alone(fd)
        if held and not is_at(path, fd):
            os.close(fd)
            continue
        break
    try:
        yield held
    finally:
        os.close(fd)


@asynccontextmanager
async def locked(path: Path, seconds: float, busy: str) -> AsyncIterator[None]:
    """Hold the lock at ``path``, waiting for it at most so long.

    Raises:
        SandboxError: ``prepare-timeout``, with ``busy``: somebody else still has it.
    """
    deadline_at = time.monotonic() + seconds
    while True:
        with try_lock(path) as held:
            if held:
                yield
                return
        if time.monotonic() > deadline_at:
            raise SandboxError("prepare-timeout", busy)
        await asyncio.sleep(LOCK_POLL_SECONDS)


@contextmanager
def try_alone(path: Path) -> Iterator[bool]:
    """Lock a blob or snapshot that nobody uses, and say whether; what is not there cannot be locked."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _try_alone(fd) and is_at(path, fd)
    finally:
        os.close(fd)


def is_at(path: Path, fd: int) -> bool:
    """Whether the open file is what stands at ``path`` now."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(fd)
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)


def _touch(fd: int) -> None:
    # The kernel's own time of files moves in steps of milliseconds.
    now = time.time_ns()
    os.utime(fd, ns=(now, now))


def _try_alone(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
