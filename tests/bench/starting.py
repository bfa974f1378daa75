"""How long the start of a registry takes, and its memory then."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.processes import resident_bytes, service

MIB = 1024 * 1024


def start(scratch: Path) -> Iterator[Figure]:
    """From the command line to ``/readyz``, with an empty data folder and with a used one."""
    fresh = []
    for i in range(3):
        with service("serve", scratch / f"start{i}") as running:
            fresh.append(running.start_seconds)
    with service("serve", scratch / "start0") as running:
        again = running.start_seconds
        idle = resident_bytes(running.process.pid)
    yield Figure("start of serve, empty data folder", statistics.median(fresh), "s", at_most=3)
    yield Figure("start of serve, used data folder", again, "s", at_most=3)
    yield Figure("memory of serve after start", idle / MIB, "MiB")
