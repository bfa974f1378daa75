"""Secrets that run specs name."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, LargeBinary, Table, Text, UniqueConstraint

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

secrets = Table(
    "secrets",
    metadata,
    Column("id", Bytewise, primary_key=True),
    Column("name", Bytewise, nullable=False),
    # Whose run specs may name it.
    Column("repository_id", Id, ForeignKey("repositories.id", ondelete="CASCADE")),
    Column("namespace_id", Id, ForeignKey("namespaces.id", ondelete="CASCADE")),
    CheckConstraint("(repository_id IS NULL) <> (namespace_id IS NULL)", name="on_one"),
    UniqueConstraint("repository_id", "name"),
    UniqueConstraint("namespace_id", "name"),
    # Wrapped by the secret key.
    Column("value", LargeBinary, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("rotated_at", UtcTime),
)
