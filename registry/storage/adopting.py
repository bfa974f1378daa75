"""Files of another registry on the same file system, taken into the folder store without a copy of their
bytes.

A file system that can (btrfs, xfs) gives a file of its own that shares the blocks (FICLONE); else the file
gets one more name, unless the store's owner may not read it. Its bytes are hashed before.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from typing import TYPE_CHECKING, Literal

from registry.errors import DigestInvalidError
from registry.storage.files import have_folder, may_be_read, storage_faults, sync_folder

if TYPE_CHECKING:
    from pathlib import Path

    from registry.oci.digest import Digest

Adopted = Literal["cloned", "linked"]
_FICLONE = 0x40049409
"""From ``linux/fs.h``."""
_READABLE = 0o400


def adopt_file(fd: int, expected: Digest, upload: Path, target: Path) -> Adopted | None:
    """Have the open file as ``target``, durably, in the place of the empty ``upload``; ``None``: it has to be
    copied.

    Raises:
        DigestInvalidError: its bytes have another digest, or change while they are read.
        StorageFullError, UnavailableError: the store fails.
    """
    cloned = _clone(fd, upload)
    with storage_faults():
        have_folder(target.parent)
        if cloned is not None:
            try:
                _verify(cloned, expected)
                os.fchmod(cloned, _READABLE)
                os.fsync(cloned)
            finally:
                os.close(cloned)
            upload.rename(target)
        else:
            _verify(fd, expected)
            if not (may_be_read(fd, target.parent) and _link(fd, target)):
                return None
            os.fsync(fd)
            upload.unlink(missing_ok=True)
        sync_folder(target.parent)
        sync_folder(upload.parent)
    return "linked" if cloned is None else "cloned"


def _clone(fd: int, upload: Path) -> int | None:
    own = os.open(upload, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(own, _FICLONE, fd)
    except OSError:
        os.close(own)
        return None
    return own


def _link(fd: int, target: Path) -> bool:
    """Whether the very file that was read has another name now."""
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # By its descriptor: under its path may be another by now. Only with a folder is that link followed.
        os.link(f"/proc/self/fd/{fd}", target, src_dir_fd=folder, follow_symlinks=True)
    except OSError:
        return False  # another file system, or a file that is not ours to link
    finally:
        os.close(folder)
    return True


def _verify(fd: int, expected: Digest) -> None:
    before = os.fstat(fd)
    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(os.dup(fd), "rb", buffering=0) as file:
        encoded = hashlib.file_digest(file, expected.algorithm).hexdigest()
    after = os.fstat(fd)
    changed = (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)
    if encoded != expected.encoded or changed:
        raise DigestInvalidError(f"the file has the digest {expected.algorithm}:{encoded}, not {expected}")
