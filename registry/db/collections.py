"""Collections: what was looked through, and the bytes that nothing names any more."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, Table, Text

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

PHASES = ("links", "blobs", "manifests", "bytes", "strays", "done")
"""What a collection looks through, in this order."""

collections = Table(
    "collections",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # Whoever asked for it; empty: it was time.
    Column("asked_by", Text, nullable=False),
    Column("asked_at", UtcTime, nullable=False),
    # No replica is at it, or none that was heard of since.
    Column("leased_until", UtcTime, nullable=False),
    Column("phase", Text, nullable=False),
    CheckConstraint(f"phase IN ({', '.join(repr(one) for one in PHASES)})", name="phase"),
    # How far the phase has come.
    Column("position", Bytewise, nullable=False, default=""),
    Column("links_condemned", Integer, nullable=False, default=0),
    Column("links_removed", Integer, nullable=False, default=0),
    Column("blobs_removed", Integer, nullable=False, default=0),
    Column("manifests_removed", Integer, nullable=False, default=0),
    Column("strays_removed", Integer, nullable=False, default=0),
    Column("freed_bytes", BigInteger, nullable=False, default=0),
    Column("ended_at", UtcTime),
)

dead_blobs = Table(
    "dead_blobs",
    metadata,
    # Bytes to delete: no row names them any more, and none ever will again.
    Column("locator", Bytewise, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("died_at", UtcTime, nullable=False),
)
