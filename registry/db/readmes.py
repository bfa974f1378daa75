"""What is said of a repository to those who come to look at it."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table, Text

from registry.db.tables import metadata
from registry.db.types import Id, UtcTime

repository_readmes = Table(
    "repository_readmes",
    metadata,
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    # Markdown, as it was given.
    Column("text", Text, nullable=False),
    Column("updated_by", Text, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)
