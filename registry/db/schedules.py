"""When images of a repository, or of all in a namespace, are tried again."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, Table, Text

from registry.db.tables import metadata
from registry.db.types import Id, UtcTime

schedules = Table(
    "schedules",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), index=True),
    Column("namespace_id", Id, ForeignKey("namespaces.id", ondelete="CASCADE"), index=True),
    CheckConstraint("(repository_id IS NULL) <> (namespace_id IS NULL)", name="on_one"),
    # After so many hours each time, or every day so many minutes after midnight UTC.
    Column("every_hours", Integer),
    Column("at_minute", Integer),
    CheckConstraint("(every_hours IS NULL) <> (at_minute IS NULL)", name="by_one"),
    # How old the verdict must be.
    Column("older_hours", Integer, nullable=False),
    # When it is due. It moves on when all of what was due then is in the queue.
    Column("next_at", UtcTime, nullable=False, index=True),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)
