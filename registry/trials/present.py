"""Which workers are there: those that ask for jobs, and those that were heard of lately."""

from __future__ import annotations

from datetime import timedelta

from registry.db.accounts import accounts, workers
from registry.db.types import db_time

SILENT_SECONDS = 120
"""A worker that waits for a job asks once a minute at the least; one that has a job says so more often."""
SILENT = workers.c.last_seen_at.is_(None) | (
    workers.c.last_seen_at < db_time(timedelta(seconds=-SILENT_SECONDS))
)
"""Workers that have not been here for longer than that."""
GETTING_JOBS = (accounts.c.disabled_at.is_(None), workers.c.drain_at.is_(None))
"""Workers that get jobs when they ask; of ``workers`` joined with ``accounts``."""
ASKING = (*GETTING_JOBS, ~SILENT)
"""Workers that get jobs and were here lately; of ``workers`` joined with ``accounts``."""
