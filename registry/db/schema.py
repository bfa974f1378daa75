"""All tables together: what migrations compare themselves with."""

from __future__ import annotations

from registry.db import (
    access,
    accounts,
    collections,
    content,
    events,
    floor,
    gate,
    hooks,
    idempotency,
    multipart,
    oidc,
    promotions,
    scans,
    schedules,
    secrets,
    sessions,
    signatures,
    signins,
    trials,
    upstreams,
    webhooks,
)
from registry.db.tables import metadata

__all__ = [
    "access",
    "accounts",
    "collections",
    "content",
    "events",
    "floor",
    "gate",
    "hooks",
    "idempotency",
    "metadata",
    "multipart",
    "oidc",
    "promotions",
    "scans",
    "schedules",
    "secrets",
    "sessions",
    "signatures",
    "signins",
    "trials",
    "upstreams",
    "webhooks",
]
