"""Who is whose child.

Not by ``/proc/PID/task/TID/children``: while one of them ends, that list may leave out others (proc(5)).
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def children_of(pid: int) -> list[int]:
    """Process ids, whichever of its threads has made them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid:
                found.append(int(entry.name))
    return found


def kill_with_its_supervisors(worker: int) -> None:
    """End a worker, and what supervises its runs, with no chance to tidy up."""
    templates = children_of(worker)
    all_of_them = [*templates, *(one for template in templates for one in children_of(template)), worker]
    # All stand still before the first goes: a worker sweeps at once what a supervisor that is gone has left.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in all_of_them:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
