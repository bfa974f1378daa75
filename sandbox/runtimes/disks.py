"""Which disk a folder lies on, as control groups name it."""

from __future__ import annotations

import os
from pathlib import Path

_DEVICES = Path("/sys/dev/block")


def disk_of(folder: Path, *, devices: Path = _DEVICES) -> tuple[int, int] | None:
    """Major and minor number of the whole disk below ``folder``; ``None`` where it is on none.

    A file system in memory, on the network, or over several disks has no one device to hold.
    """
    number = os.stat(folder).st_dev
    entry = devices / f"{os.major(number)}:{os.minor(number)}"
    if os.major(number) == 0 or not entry.exists():
        return None
    if (entry / "partition").exists():
        # Only whole disks can be throttled.
        entry = entry.resolve().parent
    major, _, minor = (entry / "dev").read_text(encoding="ascii").strip().partition(":")
    return int(major), int(minor)
