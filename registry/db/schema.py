"""All tables together: what migrations compare themselves with."""

from __future__ import annotations

from registry.db import (
    access,
    accounts,
    content,
    events,
    floor,
    idempotency,
    multipart,
    sessions,
    signins,
    trials,
)
from registry.db.tables import metadata

__all__ = [
    "access",
    "accounts",
    "content",
    "events",
    "floor",
    "idempotency",
    "metadata",
    "multipart",
    "sessions",
    "signins",
    "trials",
]
