"""What scans found: their documents, the packages in them, and which scan counts for an image."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, Table, Text

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

scans = Table(
    "scans",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # Of the document as it was kept, which names no lease: what was found again is the same row.
    Column("document_digest", Bytewise, nullable=False, unique=True),
    # The document, compressed with zstd. No repository links it.
    Column("blob_id", Id, ForeignKey("blobs.id", ondelete="RESTRICT"), nullable=False, index=True),
    # Of the image that was scanned, never of an index.
    Column("digest", Bytewise, nullable=False),
    Column("platform", Text, nullable=False),
    # Name and version of what scanned it.
    Column("scanner", Text, nullable=False),
    # The operating system as the image names it; empty: it does not.
    Column("system", Text, nullable=False),
    Column("packages", Integer, nullable=False),
    Column("found", Integer, nullable=False),
    Column("incomplete", Integer, nullable=False),
    # Whether there was more than a document may hold.
    Column("truncated", Boolean, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    # The line of the history of each layer, base first, as a JSON list.
    Column("layers", Text),
    # JSON: where in the document's bytes the entries of its lists are; null: it is read whole.
    Column("frames", Text),
)

image_scans = Table(
    "image_scans",
    metadata,
    # The newest scan of an image of a repository; it goes with the image.
    Column(
        "manifest_id",
        Id,
        ForeignKey("manifests.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("scan_id", Id, ForeignKey("scans.id", ondelete="RESTRICT"), nullable=False, index=True),
    Column("worker", Text, nullable=False),
    Column("taken_at", UtcTime, nullable=False),
)

components = Table(
    "components",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # SHA-256 of what follows: some of it is longer than an index takes.
    Column("key", Bytewise, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("ecosystem", Bytewise, nullable=False),
    Column("name", Bytewise, nullable=False),
    Column("version", Bytewise, nullable=False),
    # Of a distribution's package its source, by which advisories name it; else as the package.
    Column("source", Bytewise, nullable=False),
    Column("source_version", Bytewise, nullable=False),
    # By which matching (registry.db.matchings) advisories were last looked up for it; 0: by none yet.
    Column("matching", Id, nullable=False, server_default="0"),
    Index(None, "name", "ecosystem"),
    Index(None, "source", "ecosystem"),
    Index(None, "matching", "id"),
)

scan_components = Table(
    "scan_components",
    metadata,
    Column("scan_id", Id, ForeignKey("scans.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column(
        "component_id",
        Id,
        ForeignKey("components.id", ondelete="RESTRICT"),
        primary_key=True,
        autoincrement=False,
    ),
    # Whether a distribution's package brought it, wherever it is: it is matched through that one only.
    Column("owned", Boolean, nullable=False),
    # The first layer that brought it, from 0 on; of what is owned in part the first that is not.
    Column("layer", Integer),
    Index(None, "component_id", "scan_id"),
)
