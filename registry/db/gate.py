"""What people tell the gate: blocks, waivers and pauses."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, Text

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

blocks = Table(
    "blocks",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # Where it counts: one of them, or with neither in the whole registry.
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE")),
    Column("namespace_id", Id, ForeignKey("namespaces.id", ondelete="CASCADE")),
    CheckConstraint("repository_id IS NULL OR namespace_id IS NULL", name="on_one"),
    Column("kind", Text, nullable=False),
    CheckConstraint("kind IN ('image', 'layer', 'package')", name="kind"),
    # Of the manifest; or of a layer or config, of whatever image; empty where a package is named.
    Column("digest", Bytewise, nullable=False),
    Column("reason", Text, nullable=False),
    # Empty where an older version did it.
    Column("actor", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    # Of a package: its ecosystem, with or without the release; its name or that of its source; and a range of
    # versions, empty: all.
    Column("ecosystem", Bytewise),
    Column("package", Bytewise),
    Column("versions", Text),
    # What a push looks for.
    Index(None, "digest"),
    # What a scan looks for.
    Index(None, "package"),
    *(Index(None, column, "id") for column in ("repository_id", "namespace_id")),
)

block_components = Table(
    "block_components",
    metadata,
    # Which packages of scans a block names: only code can compare versions.
    Column(
        "block_id", Id, ForeignKey("blocks.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    ),
    Column(
        "component_id",
        Id,
        ForeignKey("components.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Index(None, "component_id", "block_id"),
)

waivers = Table(
    "waivers",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    # Of the manifest, and if it is an index of what it lists; null: all images of the repository.
    Column("digest", Bytewise),
    # JSON list of the states that it lets pass, sorted; empty where it excuses one finding.
    Column("states", Text, nullable=False),
    # By its id, in this package alone if one is named.
    Column("finding", Bytewise),
    Column("package", Bytewise),
    Column("reason", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("requested_account_id", Id),
    Column("requested_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    # Null: nobody has granted it yet, and it lets nothing pass.
    Column("granted_by", Text),
    Column("granted_at", UtcTime),
    # Refused, withdrawn or revoked before it expired.
    Column("ended_by", Text),
    Column("ended_at", UtcTime),
    Index(None, "repository_id", "expires_at"),
)

pauses = Table(
    "pauses",
    metadata,
    Column("namespace_id", Id, ForeignKey("namespaces.id", ondelete="CASCADE"), primary_key=True),
    Column("until", UtcTime, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)
