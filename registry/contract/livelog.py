"""The output of a run on its way: what a worker tells while it holds the lease, before its report.

It is there to be watched. The report holds the whole log, whatever became of these messages.
"""

from __future__ import annotations

from pydantic import Field

from registry.contract.base import LEASE, Wire, is_none
from registry.contract.report import MAX_REPORT_BYTES, MAX_RUNS

CHUNK_MAX = 64 * 1024
"""Characters of one message."""


class LogChunk(Wire):
    """``POST /worker/v1/log``: output that follows what was told before. ``run`` counts from 0 in the order
    in which the report will hold the runs, ``position`` in characters from the beginning of its log."""

    protocol: int
    lease: str = Field(pattern=LEASE)
    run: int = Field(ge=0, lt=MAX_RUNS)
    name: str = Field(max_length=64, description="of the run, as the report will say it")
    attempt: int | None = Field(default=None, ge=1, le=100, exclude_if=is_none)
    position: int = Field(ge=0, le=MAX_REPORT_BYTES)
    text: str = Field(min_length=1, max_length=CHUNK_MAX)


class LogTaken(Wire):
    """Where the next message begins; ``full``: no more of this lease is kept, tell none."""

    protocol: int
    position: int
    full: bool = False
