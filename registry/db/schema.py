"""All tables together: what migrations compare themselves with."""

from __future__ import annotations

from registry.db import accounts, content, events, floor, multipart, trials
from registry.db.tables import metadata

__all__ = ["accounts", "content", "events", "floor", "metadata", "multipart", "trials"]
