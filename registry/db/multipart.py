"""Unfinished uploads to a store without locks and appending: who writes, and which parts are there."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, Table, Text

from registry.db.tables import metadata
from registry.db.types import Bytewise, UtcTime

multipart_uploads = Table(
    "multipart_uploads",
    metadata,
    Column("locator", Bytewise, primary_key=True),
    # Counts the requests that have held this upload; whoever names an older one has been given up.
    Column("epoch", Integer, nullable=False, default=0),
    Column("held_until", UtcTime),
    Column("length", BigInteger, nullable=False, default=0),
    Column("multipart_id", Text),
    Column("next_part", Integer, nullable=False, default=1),
    Column("tail_bytes", BigInteger, nullable=False, default=0),
    Column("tail_epoch", Integer, nullable=False, default=0),
    Column("finishing", Boolean, nullable=False, default=False),
    Column("written_at", UtcTime, nullable=False, index=True),
)

multipart_parts = Table(
    "multipart_parts",
    metadata,
    Column(
        "locator", Bytewise, ForeignKey("multipart_uploads.locator", ondelete="CASCADE"), primary_key=True
    ),
    Column("number", Integer, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("etag", Text, nullable=False),
    Column("checksum", Text),
)
