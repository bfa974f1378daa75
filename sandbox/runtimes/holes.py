"""Published holes of runtimes that a hostile image can use, by version, and what closes them here.

A distribution may have put a fix into an older version without changing the number: what is listed *may* be
open. So each stands with the check of ours that holds even if it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hole:
    """``fixed`` are the first good versions, one for each line of releases that got the fix."""

    name: str
    fixed: tuple[tuple[int, int, int], ...]
    closed_by: str


RUNC_HOLES = (
    Hole("CVE-2019-5736", ((1, 0, 0),), "user namespace: the host's runtime is not writable for the run"),
    Hole("CVE-2024-21626", ((1, 1, 12),), "the working folder is never below /proc, also by a link"),
    Hole(
        "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881",
        ((1, 2, 8), (1, 3, 3), (1, 4, 0)),
        "always a fresh /dev; user namespace; nothing of the image runs before the mounts are done",
    ),
    Hole(
        "CVE-2026-41579",
        ((1, 3, 6), (1, 4, 3), (1, 5, 0)),
        "/dev and every mount point must be real folders in the image",
    ),
)


def known_holes(version: str, holes: tuple[Hole, ...]) -> tuple[str, ...]:
    """The holes that a version may have; all of them where the version cannot be read."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    number = tuple(int(part) for part in match.groups()) if match else (0, 0, 0)
    if "-rc" in version:  # a candidate comes before its release
        number = (*number[:2], number[2] - 1)
    return tuple(f"{hole.name} ({hole.closed_by})" for hole in holes if not _fixed(number, hole))


def _fixed(number: tuple[int, ...], hole: Hole) -> bool:
    same_line = [fix for fix in hole.fixed if fix[:2] == number[:2]]
    if same_line:
        return number >= same_line[0]
    return number > max(hole.fixed)
