"""Which findings a verdict rests on, and what came of that for each image."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Table, Text

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

findings_policies = Table(
    "findings_policies",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # Where it counts; the nearest counts alone.
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), unique=True),
    Column("namespace_id", Id, ForeignKey("namespaces.id", ondelete="CASCADE"), unique=True),
    CheckConstraint("(repository_id IS NULL) <> (namespace_id IS NULL)", name="on_one"),
    # Canonical JSON, and its digest.
    Column("document", Text, nullable=False),
    Column("digest", Bytewise, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

image_findings = Table(
    "image_findings",
    metadata,
    # What a policy made of an image's newest scan.
    Column(
        "manifest_id",
        Id,
        ForeignKey("manifests.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("policy_digest", Bytewise, nullable=False),
    # Of the scan's document; null: there was none.
    Column("document_digest", Bytewise),
    Column("verdict", Text, nullable=False),
    CheckConstraint("verdict IN ('pass', 'warn', 'fail', 'error')", name="verdict"),
    # In one sentence, for the image's state.
    Column("reason", Text, nullable=False),
    # JSON lists: the findings that decide, the worst first, and those that somebody excused.
    Column("reasons", Text, nullable=False),
    Column("excused", Text, nullable=False),
    Column("judged_at", UtcTime, nullable=False),
    # When it is to be judged again though nothing else happens: a grace or a waiver ends; null: never.
    Column("changes_at", UtcTime, index=True),
    # Whether other advisories could change it though they say nothing new of its packages, and the matching
    # that it was judged after.
    Column("waits", Boolean, nullable=False),
    Column("matching", Id, nullable=False),
    # JSON: the findings that count for more once their grace is over, the next first; null: none.
    Column("coming", Text),
    Index(None, "waits", "matching"),
)
