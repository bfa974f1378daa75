"""The kernel calls that Python lacks, by ctypes: the mount API, user namespaces, id-mapped mounts.

Light on purpose: the confined child imports it too. Calls raise ``OSError`` with the kernel's errno.
Numbers from 424 on are the same on every architecture.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

CLONE_FS = 0x200
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME = 1, 2, 4, 8, 1024
MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 32, 4096, 16384, 1 << 19
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 1, 38, 24
_PR_SET_CHILD_SUBREAPER = 36

_CAPABILITY_VERSION = 0x20080522
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV, _ATTR_NOEXEC, _ATTR_IDMAP = 1, 2, 4, 8, 0x100000
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_SYS_OPENAT2 = 437
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x02, 0x04, 0x08, 0x10
_SYS_PIVOT_ROOT: Mapping[str, int] = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def checked(result: int, what: str) -> int:
    """``result`` of a C call; a negative one becomes the ``OSError`` of errno, with ``what`` in its text."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: object, what: str) -> int:
    """A raw system call; integers go as longs."""
    longs = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return checked(_libc.syscall(ctypes.c_long(number), *longs), what)


def openat2(folder: int, path: bytes, *, flags: int, mode: int = 0, resolve: int) -> int:
    """openat2(2), always with O_CLOEXEC."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    size = ctypes.sizeof(how)
    return syscall(_SYS_OPENAT2, folder, path, ctypes.byref(how), size, what="openat2")


def prctl(option: int, value: int = 0, pointer: object = 0) -> int:
    """prctl(2)."""
    long = ctypes.c_ulong
    third = pointer if not isinstance(pointer, int) else long(pointer)
    return checked(_libc.prctl(ctypes.c_int(option), long(value), third, long(0), long(0)), "prctl")


def become_subreaper() -> None:
    """Let descendants whose parents end become children of the calling process."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread."""
    checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def enter(namespace_fd: int, kind: int) -> None:
    """setns(2) for the calling thread."""
    checked(_libc.setns(ctypes.c_int(namespace_fd), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str, kind: str | None, flags: int = 0, options: str | None = None) -> None:
    """mount(2)."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    checked(
        _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]),
        f"mount {kind or 'flags'}",
    )


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2).

    Raises:
        OSError: the kernel refuses, or ENOSYS on a machine whose number for it is not known here.
    """
    number = _SYS_PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"pivot_root: not known on {platform.machine()}")
    syscall(
        number,
        ctypes.c_char_p(os.fsencode(new_root)),
        ctypes.c_char_p(os.fsencode(put_old)),
        what="pivot_root",
    )


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2), never through a symbolic link."""
    checked(_libc.umount2(os.fsencode(target), ctypes.c_int(flags | UMOUNT_NOFOLLOW)), "umount")


def clone_tree(
    path: str, *, userns_fd: int | None = None, read_only: bool = False, executable: bool = False
) -> int:
    """A detached copy of the mount at ``path`` (nosuid, nodev; noexec unless ``executable``), as a file
    descriptor.

    With ``userns_fd`` the copy is id-mapped: what is owned by id N on disk is seen as the id that the
    namespace maps N to, and written back so.
    """
    fd = syscall(
        _SYS_OPEN_TREE,
        _AT_FDCWD,
        ctypes.c_char_p(os.fsencode(path)),
        _OPEN_TREE_CLONE | os.O_CLOEXEC,
        what="open_tree",
    )
    try:
        attributes = _ATTR_NOSUID | _ATTR_NODEV | (0 if executable else _ATTR_NOEXEC)
        if read_only:
            attributes |= _ATTR_RDONLY
        attr = _MountAttr(attributes, 0, 0, 0)
        if userns_fd is not None:
            attr.attr_set |= _ATTR_IDMAP
            attr.userns_fd = userns_fd
        syscall(
            _SYS_MOUNT_SETATTR,
            fd,
            ctypes.c_char_p(b""),
            _AT_EMPTY_PATH,
            ctypes.byref(attr),
            ctypes.sizeof(attr),
            what="mount_setattr",
        )
    except OSError:
        os.close(fd)
        raise
    return fd


def attach_tree(fd: int, target: str) -> None:
    """Mount a detached copy at ``target``."""
    syscall(
        _SYS_MOVE_MOUNT,
        fd,
        ctypes.c_char_p(b""),
        _AT_FDCWD,
        ctypes.c_char_p(os.fsencode(target)),
        _MOVE_MOUNT_F_EMPTY_PATH,
        what="move_mount",
    )


@contextmanager
def user_namespace(base: int, size: int) -> Iterator[int]:
    """A user namespace in which ids 0 to ``size`` - 1 are ``base`` and up, as a file descriptor."""
    # A program of its own, not os.fork: the caller may have threads.
    with subprocess.Popen(
        ["unshare", "--user", "/bin/sh", "-c", "echo; read -r _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
    ) as holder:
        assert holder.stdout is not None
        try:
            if holder.stdout.readline() != b"\n":
                raise OSError(errno.EPERM, "unshare: no user namespace can be made")
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/{holder.pid}/{name}", "w", encoding="ascii") as file:
                    file.write(f"0 {base} {size}\n")
            fd = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            holder.kill()
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def file_system_ids(number: int) -> Iterator[None]:
    """Act on files as this user and group, with every capability that root has."""
    permitted = _capabilities()
    _libc.setfsgid(ctypes.c_uint(number))
    _libc.setfsuid(ctypes.c_uint(number))
    # Leaving user 0 takes the capabilities about files from the effective set.
    set_capabilities(permitted)
    try:
        yield
    finally:
        _libc.setfsuid(ctypes.c_uint(0))
        _libc.setfsgid(ctypes.c_uint(0))


def set_capabilities(bits: int) -> None:
    """Make ``bits`` the effective and permitted capabilities of the thread, and clear the inheritable."""
    low, high = bits & 0xFFFFFFFF, bits >> 32
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    data = struct.pack("6I", low, low, 0, high, high, 0)
    checked(_libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(data)), "capset")


def _capabilities() -> int:
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION, 0))
    data = ctypes.create_string_buffer(24)
    checked(_libc.capget(header, data), "capget")
    fields = struct.unpack("6I", data.raw)
    return int(fields[1]) | int(fields[4]) << 32


def initial_user_namespace() -> bool:
    """Whether every id is mapped, as on the host itself."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        fields = file.read().split()
    return fields == ["0", "0", "4294967295"]
