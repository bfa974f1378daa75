"""Which tags stand where they stand for good."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Table, Text

from registry.db.tables import metadata
from registry.db.types import Id, UtcTime

tag_rules = Table(
    "tag_rules",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # Where it counts.
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), index=True),
    Column("namespace_id", Id, ForeignKey("namespaces.id", ondelete="CASCADE"), index=True),
    CheckConstraint("(repository_id IS NULL) <> (namespace_id IS NULL)", name="on_one"),
    # Which tags it is about, and JSON list of [kind, pattern] of those that it is not about all the same.
    Column("kind", Text, nullable=False),
    CheckConstraint("kind IN ('glob', 'regex', 'semver')", name="kind"),
    Column("pattern", Text, nullable=False),
    Column("exceptions", Text, nullable=False),
    Column("reason", Text),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)
