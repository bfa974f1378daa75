"""The few kernel calls that Python 3.11 lacks."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become_subreaper() -> None:
    """Let descendants whose parents end become children of the calling process."""
    _checked(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def no_new_privileges() -> None:
    """Give up, for ever, what set-user-ID programs could give."""
    _checked(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def enter_namespace(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace that ``fd`` is a handle of."""
    _checked(ctypes.CDLL(None, use_errno=True).setns(fd, kind))


def leave_namespaces(kinds: int) -> None:
    """Give the calling process new namespaces of these kinds."""
    _checked(ctypes.CDLL(None, use_errno=True).unshare(kinds))


def in_user_namespace() -> bool:
    """Whether the ids of this process are not the host's own."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() != ["0", "0", "4294967295"]


def children_of(pid: int) -> tuple[int, ...]:
    """Process ids of the direct children; none where the process is gone."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return tuple(int(text) for text in file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        return ()
