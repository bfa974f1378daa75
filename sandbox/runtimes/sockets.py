"""What the kernel holds for the sockets of a run, beside what it counts as the run's memory."""

from __future__ import annotations

from pathlib import Path

from sandbox.runtimes.cgroups import Cgroups, folder_of

_SHARE = 8
_LIMIT = "memory.kmem.tcp.limit_in_bytes"
_HELD = 4
"""The column of what waits to be read."""


def share_of(memory_bytes: int) -> int:
    """Bytes that the sockets of a run may hold, where they are no part of its memory."""
    return memory_bytes // _SHARE


def hold_sockets(cgroups: Cgroups, group: str, memory_bytes: int) -> str:
    """Limit what the internet sockets of a run hold on version 1, and read it back, in words for its record.

    There it is counted apart from the memory, and only under a limit, which no runtime sets: without one it
    would be bounded by what all sockets of the host hold together. On version 2 it is memory as any other.
    """
    folder = folder_of(cgroups.by_controller.get("memory"), group)
    if folder is None or not (folder / _LIMIT).exists():
        return "not limited: this kernel does not count them"
    (folder / _LIMIT).write_text(str(share_of(memory_bytes)), encoding="ascii")
    return (folder / _LIMIT).read_text(encoding="ascii").strip()


def netlink_bytes(pid: int) -> int:
    """What waits to be read in the netlink sockets of the network namespace of ``pid``; 0 where that is gone.

    The kernel counts it to nobody, on either version: two thousand such sockets hold a gigabyte.
    """
    try:
        lines = Path(f"/proc/{pid}/net/netlink").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[_HELD]) for line in lines[1:])
