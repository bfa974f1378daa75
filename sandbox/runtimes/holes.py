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


RUNC_MOUNTS = Hole(
    "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881",
    ((1, 2, 8), (1, 3, 3), (1, 4, 0)),
    "always a fresh /dev; user namespace; nothing of the image runs before the mounts are done",
)
RUNC_HOLES = (
    Hole("CVE-2019-5736", ((1, 0, 0),), "user namespace: the host's runtime is not writable for the run"),
    Hole("CVE-2024-21626", ((1, 1, 12),), "the working folder is never below /proc, also by a link"),
    RUNC_MOUNTS,
    Hole(
        "CVE-2026-41579",
        ((1, 3, 6), (1, 4, 3), (1, 5, 0)),
        "/dev and every mount point must be real folders in the image",
    ),
)
CRUN_HOLES = (
    Hole("CVE-2019-18837", ((0, 10, 5),), "every mount point must be a real folder in the image"),
    Hole(
        "CVE-2022-27650", ((1, 4, 4),), "what is started inside inherits no capability, by its own document"
    ),
    Hole("CVE-2025-24965", ((1, 20, 0),), "no label of an image can ask for another way to run it (krun)"),
)
# Its releases are dates; where only the day of publication is known, the release after it.
RUNSC_HOLES = (
    Hole(
        "CVE-2018-16359",
        ((20180823, 0, 0),),
        "a run's files are opened by a process that has its root alone, under the run's ids",
    ),
    Hole("CVE-2018-19333", ((20181101, 0, 0),), "it stays inside: every run has a kernel of its own"),
    Hole("CVE-2018-20168", ((20180822, 0, 0),), "the platform is systrap, never KVM"),
    Hole(
        "CVE-2025-2713",
        ((20250401, 0, 0),),
        "there are no files but the image's; the run's own ids open them",
    ),
)


def known_holes(version: str, holes: tuple[Hole, ...]) -> tuple[str, ...]:
    """The holes that a version may have; all of them where the version cannot be read."""
    return tuple(f"{hole.name} ({hole.closed_by})" for hole in holes if may_have(hole, version))


def may_have(hole: Hole, version: str) -> bool:
    """Whether a version may have the hole."""
    match = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", version)
    number = tuple(int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    if "-rc" in version:  # a candidate comes before its release
        number = (*number[:2], number[2] - 1)
    same_line = [fix for fix in hole.fixed if fix[:2] == number[:2]]
    return number < (same_line[0] if same_line else max(hole.fixed))
