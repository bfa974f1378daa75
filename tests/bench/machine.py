"""What the figures were measured on, and how busy it was."""

from __future__ import annotations

import os
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.bench import peers


def describe() -> dict[str, object]:
    """The machine in words; takes two seconds, to see how much of it others use."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in ("aiohttp", "uvloop", "SQLAlchemy")},
        "peers": peers.versions(),
        "busy_before": round(_busy(), 2),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _busy() -> float:
    """Share of the processors' time that others took while this process slept."""
    idle, total = _ticks()
    time.sleep(2)
    idle_now, total_now = _ticks()
    return 1 - (idle_now - idle) / max(total_now - total, 1)


def _ticks() -> tuple[int, int]:
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)
