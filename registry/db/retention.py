"""What repositories keep and what goes: policies, runs, and what each has deleted."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text, text

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

OUTCOMES = ("done", "stopped")
"""How a run ended: it has deleted what was to go, or something kept it from that."""

retention_policies = Table(
    "retention_policies",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # Where it counts, unless there is one nearer by.
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), unique=True),
    Column("namespace_id", Id, ForeignKey("namespaces.id", ondelete="CASCADE"), unique=True),
    CheckConstraint("(repository_id IS NULL) <> (namespace_id IS NULL)", name="on_one"),
    # Canonical JSON (registry.content.retentionrules.RetentionPolicy).
    Column("document", Text, nullable=False),
    # When it is carried out by itself; null: when somebody asks.
    Column("next_at", UtcTime, index=True),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

retention_runs = Table(
    "retention_runs",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    # The policy as it was then: where another one counts meanwhile, the run ends.
    Column("document", Text, nullable=False),
    Column("cap", Integer, nullable=False),
    Column("cap_percent", Integer, nullable=False),
    # Whoever asked for it; empty: it was time.
    Column("asked_by", Text, nullable=False),
    Column("asked_at", UtcTime, nullable=False),
    # No replica is at it, or none that was heard of since.
    Column("leased_until", UtcTime, nullable=False),
    Column("tags_deleted", Integer, nullable=False, default=0),
    Column("manifests_deleted", Integer, nullable=False, default=0),
    Column("outcome", Text),
    CheckConstraint(f"outcome IN ({', '.join(repr(one) for one in OUTCOMES)})", name="outcome"),
    # Why it was stopped.
    Column("detail", Text),
    Column("ended_at", UtcTime, index=True),
    Index(None, "repository_id", "id"),
    # What is to be done; few are.
    Index(
        "ix_retention_runs_open",
        "id",
        postgresql_where=text("ended_at IS NULL"),
        sqlite_where=text("ended_at IS NULL"),
    ),
)

retention_items = Table(
    "retention_items",
    metadata,
    # What a run has deleted, in this order.
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("run_id", Id, ForeignKey("retention_runs.id", ondelete="CASCADE"), nullable=False),
    # A tag and where it stood; null: the manifest itself.
    Column("tag", Bytewise),
    Column("digest", Bytewise, nullable=False),
    Column("why", Text, nullable=False),
    # When it was brought back, or could not be, and why not.
    Column("undone_at", UtcTime),
    Column("undone", Text),
    Index(None, "run_id", "id"),
)
