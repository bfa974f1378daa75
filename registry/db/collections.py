"""Collections: what was looked through, the bytes that nothing names any more, and who needs them to stay;
scrubs: which bytes were read and hashed again."""

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

scrubs = Table(
    "scrubs",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # Whoever asked for it; empty: it was time.
    Column("asked_by", Text, nullable=False),
    Column("asked_at", UtcTime, nullable=False),
    # No replica is at it, or none that was heard of since.
    Column("leased_until", UtcTime, nullable=False),
    Column("bytes_per_second", BigInteger, nullable=False),
    # The number of the last blob that was looked at, and of the last that there was at the beginning.
    Column("position", Id, nullable=False, default=0),
    Column("last_blob", Id, nullable=False),
    Column("blobs_total", BigInteger, nullable=False),
    Column("bytes_total", BigInteger, nullable=False),
    Column("blobs_checked", BigInteger, nullable=False, default=0),
    Column("bytes_checked", BigInteger, nullable=False, default=0),
    # Blobs found damaged that were not known to be, and found whole that were thought damaged.
    Column("damaged", Integer, nullable=False, default=0),
    Column("recovered", Integer, nullable=False, default=0),
    # Why it ended before its end; null: it did not.
    Column("stopped", Text),
    Column("ended_at", UtcTime),
)

byte_holds = Table(
    "byte_holds",
    metadata,
    # While one of them lasts, no bytes are deleted: somebody copies what stood at one moment.
    Column("id", Bytewise, primary_key=True),
    Column("held_until", UtcTime, nullable=False),
)
