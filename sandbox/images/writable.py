"""The writable layer of one run, which ends in ENOSPC, for bytes and for inodes.

An ext4 in a file where loop devices can be had, else a tmpfs, which counts into the run's memory.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from sandbox import syscalls as kernel

_BYTES_PER_INODE = 16384
_INODES_MIN = 1024
_INODE_BYTES = 256
_BLOCK_BYTES = 4096
_MKFS_SECONDS = 60.0
_LOOP_CONTROL = Path("/dev/loop-control")
_GET_FREE, _CONFIGURE = 0x4C82, 0x4C0A
# struct loop_config (linux/loop.h): of all its fields only the file and the flags are set here.
_LOOP_CONFIG = struct.Struct("=I56xI240x")
_AUTOCLEAR = 4
_ATTEMPTS = 64
# What a run wrote is not kept: a flush of the host's disk at every end would be for nothing.
_OPTIONS = "noinit_itable,barrier=0"


def mount_writable(image: Path, folder: str, written_bytes: int) -> None:
    """Mount what takes ``written_bytes`` and no more at ``folder``, kept in the new file ``image``.

    Raises:
        OSError: it cannot be had; ENOSPC: there is no room for it.
    """
    inodes = max(_INODES_MIN, written_bytes // _BYTES_PER_INODE)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    if not kernel.initial_user_namespace() or not _LOOP_CONTROL.exists():
        options = f"mode=711,size={written_bytes},nr_inodes={inodes}"
        kernel.mount("none", folder, "tmpfs", flags, options)
        return
    # The file system's own tables come on top of what the run may write.
    size = written_bytes + inodes * _INODE_BYTES + written_bytes // 64 + 2 * 1024 * 1024
    size -= size % _BLOCK_BYTES
    free = os.statvfs(image.parent)
    if free.f_bavail * free.f_frsize < size:
        raise OSError(errno.ENOSPC, "no room for the writable layer")
    fd = os.open(image, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, size)
        for offset, data in _empty_ext4(size, inodes):
            if os.pwrite(fd, data, offset) != len(data):
                raise OSError(errno.ENOSPC, "no room for the writable layer")
        device, path = _loop_device(fd)
    finally:
        os.close(fd)
    try:
        kernel.mount(path, folder, "ext4", flags | kernel.MS_NOATIME, _OPTIONS)
    finally:
        # From here on the mount alone holds the device, and its end is the device's.
        os.close(device)
    _fill_to(folder, written_bytes)


@lru_cache(maxsize=4)
def _empty_ext4(size: int, inodes: int) -> tuple[tuple[int, bytes], ...]:
    """Where an empty file system of this size is not zero, and what stands there: some 100 KB for each GB.

    Making it takes longer than all else about a mount, and the result is always the same.
    """
    fd = os.memfd_create("ext4", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        _make_ext4(fd, inodes)
        return tuple(_data(fd))
    finally:
        os.close(fd)


def _make_ext4(fd: int, inodes: int) -> None:
    arguments = (
        *("-q", "-F", "-m", "0", "-b", f"{_BLOCK_BYTES}", "-N", f"{inodes}"),
        *("-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard"),
    )
    try:
        done = subprocess.run(
            ["mkfs.ext4", *arguments, f"/proc/self/fd/{fd}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_MKFS_SECONDS,
            pass_fds=(fd,),
        )
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, f"mkfs.ext4: not done after {_MKFS_SECONDS:g} s") from None
    if done.returncode != 0:
        raise OSError(errno.EIO, f"mkfs.ext4: {done.stderr.decode('utf-8', 'replace').strip()[:200]}")


def _data(fd: int) -> Iterator[tuple[int, bytes]]:
    at = 0
    while True:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, os.pread(fd, at - start, start)


def _loop_device(fd: int) -> tuple[int, str]:
    """A loop device over the file, open, which is let go with its last user; and its path."""
    control = os.open(_LOOP_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            path = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _CONFIGURE, _LOOP_CONFIG.pack(fd, _AUTOCLEAR))
            except OSError as error:
                os.close(device)
                # Somebody else was told of the same one.
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device, path
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no loop device is free")


def _fill_to(folder: str, free_bytes: int) -> None:
    """Take what a file system has beyond ``free_bytes`` with a file that holds no data."""
    there = os.statvfs(folder)
    beyond = there.f_bavail * there.f_frsize - free_bytes
    if beyond > 0:
        fd = os.open(f"{folder}/filler", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(fd, 0, beyond)
        os.close(fd)
