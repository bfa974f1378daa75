"""Ranges of user and group ids: what an image's ids 0 to ``size`` - 1 are on the host."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError

_LOCKS = Path("/run/seatrial/ids")
_RANGE_SIZE = 65536
# systemd's list of id ranges (UIDS-GIDS.md) leaves these to nobody: above containers, below 2^31.
_FIRST_BASE, _LAST_BASE = 0x70000000, 0x7FFE0000
_USABLE_SIZE = 1000
_ALL_IDS = 2**32 - 1


@dataclass(frozen=True, slots=True)
class IdRange:
    """The image's id 0 is the worker's id ``base``; ``size`` ids are mapped."""

    base: int
    size: int = _RANGE_SIZE


@contextmanager
def leased_ids(locks: Path = _LOCKS) -> Iterator[IdRange]:
    """A range that no other run on this host uses while the context lasts.

    As root of the host each context gets a range of its own; files under ``locks`` say which are taken, and a
    killed worker's are free again at once. Inside a user namespace (a worker without root) every context
    gets the one range that fits beside the worker's own id.

    Raises:
        SandboxError: ``isolation-missing`` where there is no range left, or too few ids are mapped.
    """
    mapped = mapped_ids()
    if mapped < _ALL_IDS:
        if mapped <= _USABLE_SIZE:
            raise SandboxError(
                "isolation-missing",
                f"this worker may use {mapped} ids and an image needs {_RANGE_SIZE}; give its user a range "
                "in /etc/subuid and /etc/subgid and install newuidmap",
            )
        yield IdRange(1, min(mapped - 1, _RANGE_SIZE))
        return
    locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    for base in range(_FIRST_BASE, _LAST_BASE, _RANGE_SIZE):
        fd = os.open(locks / f"{base}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        try:
            yield IdRange(base)
        finally:
            os.close(fd)
        return
    raise SandboxError("isolation-missing", "every range of ids is taken by a run", retryable=True)


def mapped_ids(process: Path = Path("/proc/self")) -> int:
    """How many ids from 0 up the process can use, users and groups alike; 2^32 - 1 on the host itself."""
    return min(_contiguous(process / "uid_map"), _contiguous(process / "gid_map"))


def _contiguous(table: Path) -> int:
    ranges = sorted(
        (int(line.split()[0]), int(line.split()[2]))
        for line in table.read_text(encoding="ascii").splitlines()
    )
    end = 0
    for first, length in ranges:
        if first != end:
            break
        end = first + length
    return end
